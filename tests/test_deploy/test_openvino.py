"""OpenVINO through mmdeploy, on the CPU, against PyTorch: every family."""

import onnx
import openvino
import pytest
import torch
from mmdeploy.apis.utils import to_backend

from mmdet_centernet2.deploy.task import CenterNet2Detection
from mmdet_centernet2.runtime.model_info import KEY
from tests.test_deploy.exporting import (
    FAMILIES,
    assert_same,
    assert_same_masks,
    batches,
    build,
    deploy_cfg,
    export_model,
    kind_of,
    make_images,
    run_torch,
    tiny_cfg,
)

pytestmark = [pytest.mark.export, pytest.mark.slow]


def convert(family, path, folder):
    """What mmdeploy makes of a graph for OpenVINO."""
    deploy = deploy_cfg(f'{kind_of(family)}_openvino_dynamic')
    files = to_backend('openvino', [path], work_dir=str(folder), deploy_cfg=deploy)
    assert [name.rsplit('.')[-1] for name in files] == ['xml']
    return CenterNet2Detection(tiny_cfg(family), deploy, 'cpu').build_backend_model(files)


@pytest.mark.parametrize('family', FAMILIES)
def test_same_detections_for_any_size_and_batch(family, exported, tmp_path):
    model, path = exported(family)
    deployed = convert(family, path, tmp_path)
    found = 0
    for batch in batches(family):
        outputs = deployed.wrapper(dict(input=batch.inputs, image_sizes=batch.sizes))
        wanted = run_torch(model, batch)
        assert_same(outputs, wanted)
        found += sum(map(len, wanted))
        if family == 'masks':
            assert_same_masks(model, batch, outputs)
    assert found > 10, 'the model finds too little to prove anything'


@pytest.fixture(scope='module')
def cascade(exported, tmp_path_factory):
    model, path = exported('cascade')
    return model, convert('cascade', path, tmp_path_factory.mktemp('openvino'))


def test_its_graph_is_that_for_onnxruntime(exported, tmp_path):
    deploy, family = deploy_cfg('detection_openvino_dynamic'), 'single second stage'
    path = exported(family)[1]
    model = build(tiny_cfg(family), deploy)
    own = export_model(model, deploy, make_images([(128, 128)]), tmp_path)
    assert onnx.load(own).graph == onnx.load(path).graph


def test_same_detections_in_the_original_image(cascade):
    """Through the whole of mmdeploy's backend model."""
    model, deployed = cascade
    images = make_images([(96, 120)])
    (found,) = deployed(images.inputs, images.samples(), mode='predict')
    with torch.no_grad():
        (wanted,) = model.predict(images.inputs.clone(), images.samples())
    found, wanted = found.pred_instances, wanted.pred_instances
    assert len(found) == len(wanted) > 0
    dets = torch.cat([found.bboxes, found.scores[:, None]], dim=1)
    assert_same(
        dict(dets=dets[None], labels=found.labels[None]), [wanted], pixels=0.04
    )  # four times as large as the network's input


def test_nothing_found_gives_nothing(cascade):
    _, deployed = cascade
    images = make_images([(96, 120)])
    images.inputs.fill_(-1e4)
    (found,) = deployed(images.inputs, images.samples(), mode='predict')
    assert found.pred_instances.bboxes.shape[1] == 4
    assert (found.pred_instances.scores > 0).all()


def test_computes_in_float32_and_says_what_it_is(cascade):
    session = cascade[1].wrapper.session
    precision = session.compiled.get_property('INFERENCE_PRECISION_HINT')
    assert precision == openvino.Type.f32
    assert set(session.input_shapes) == {'input', 'image_sizes'}
    assert session.output_names == ('dets', 'labels')
    assert KEY in session.metadata
