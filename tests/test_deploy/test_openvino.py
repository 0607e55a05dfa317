"""OpenVINO through mmdeploy, on the CPU, against PyTorch."""

import openvino
import pytest
import torch
from mmdeploy.apis.utils import to_backend

from mmdet_centernet2.deploy.task import CenterNet2Detection
from mmdet_centernet2.runtime.model_info import KEY
from tests.test_deploy.exporting import (
    assert_same,
    build,
    deploy_cfg,
    export_model,
    make_images,
    run_torch,
    tiny_cfg,
)

pytestmark = [pytest.mark.export, pytest.mark.slow]

FAMILIES = ('cascade', 'DLA, BiFPN, P5')


@pytest.fixture(scope='module', params=FAMILIES)
def converted(request, tmp_path_factory):
    """A model of PyTorch, and what mmdeploy makes of it for OpenVINO."""
    folder = tmp_path_factory.mktemp('openvino')
    cfg = tiny_cfg(request.param)
    deploy = deploy_cfg('detection_openvino_dynamic')
    model = build(cfg, deploy)
    file = export_model(model, deploy, make_images([(96, 120)]), folder)
    files = to_backend('openvino', [file], work_dir=str(folder), deploy_cfg=deploy)
    assert [name.rsplit('.')[-1] for name in files] == ['xml']
    task = CenterNet2Detection(cfg, deploy, 'cpu')
    return model, task.build_backend_model(files)


@pytest.mark.parametrize('shapes', [[(96, 120)], [(200, 110), (130, 240)]])
def test_same_detections_for_any_size_and_batch(converted, shapes):
    model, deployed = converted
    images = make_images(shapes, seed=len(shapes))
    outputs = deployed.wrapper(dict(input=images.inputs, image_sizes=images.sizes))
    assert_same(outputs, run_torch(model, images))


def test_same_detections_in_the_original_image(converted):
    """Through the whole of mmdeploy's backend model."""
    model, deployed = converted
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


def test_nothing_found_gives_nothing(converted):
    _, deployed = converted
    images = make_images([(96, 120)])
    images.inputs.fill_(-1e4)
    (found,) = deployed(images.inputs, images.samples(), mode='predict')
    assert found.pred_instances.bboxes.shape[1] == 4
    assert (found.pred_instances.scores > 0).all()


def test_computes_in_float32_and_says_what_it_is(converted):
    session = converted[1].wrapper.session
    precision = session.compiled.get_property('INFERENCE_PRECISION_HINT')
    assert precision == openvino.Type.f32
    assert set(session.input_shapes) == {'input', 'image_sizes'}
    assert session.output_names == ('dets', 'labels')
    assert KEY in session.metadata
