"""Every family as a graph in onnxruntime finds what it finds in PyTorch."""

import json

import onnx
import pytest
import torch
from mmcv.ops import ModulatedDeformConv2dPack
from mmdeploy.core import RewriterContext
from mmdeploy.utils import IR
from torch import nn

from mmdet_centernet2.deploy.metadata import build_metadata
from mmdet_centernet2.deploy.postprocess import best_classes, nms_threshold
from mmdet_centernet2.runtime.model_info import KEY
from tests.test_deploy.exporting import (
    FAMILIES,
    Images,
    assert_same,
    assert_same_masks,
    batches,
    build,
    deploy_cfg,
    export_model,
    find_node,
    make_images,
    run_onnx,
    run_torch,
    tiny_cfg,
)

pytestmark = [pytest.mark.export, pytest.mark.slow]

EXAMPLE = make_images([(128, 128)])


def heads_differ(model: nn.Module, path: str, batch: Images) -> float:
    """Largest difference of the finest level's maps, heat and boxes."""
    stage = 'rpn_head' if hasattr(model, 'rpn_head') else 'bbox_head'
    head = getattr(model, stage)
    names = [
        find_node(path, f'/{stage}/{head.heat_predictor}', 'Conv'),
        find_node(path, f'/{stage}/conv_reg', 'Conv'),
    ]
    outputs = run_onnx(path, batch, *names)
    with torch.no_grad():
        feats = model.extract_feat(batch.inputs)
        maps = head.forward_single(feats[0], nn.Identity())
    return max(
        (outputs[names[0]] - maps[0]).abs().max().item(),
        (outputs[names[1]].relu() - maps[1]).abs().max().item(),
    )


@pytest.mark.parametrize('family', FAMILIES)
def test_one_dynamic_graph_for_all_sizes_and_batches(family, exported):
    model, path = exported(family)
    file = onnx.load(path)
    assert {node.domain for node in file.graph.node} == {''}, 'no custom operators'
    said = {entry.key: entry.value for entry in file.metadata_props}
    assert json.loads(said[KEY])['task'] == ('mask' if family == 'masks' else 'bbox')
    found = 0
    for batch in batches(family):
        ours, theirs = run_onnx(path, batch), run_torch(model, batch)
        assert_same(ours, theirs)
        found += sum(map(len, theirs))
        if family == 'masks':
            assert_same_masks(model, batch, ours)
    assert found > 10, 'the model finds too little to prove anything'
    assert heads_differ(model, path, batches(family)[0]) < 1e-4


def test_static_graph_of_two_images(tmp_path):
    deploy = deploy_cfg('detection_onnxruntime_static', input_shape=None)
    model = build(tiny_cfg('single second stage'), deploy)
    one, batch = batches('single second stage')
    path = export_model(model, deploy, batch, tmp_path)
    ours = run_onnx(path, batch)
    assert ours['dets'].shape == (2, 20, 5)
    assert ours['labels'].shape == (2, 20)
    assert_same(ours, run_torch(model, batch))
    with pytest.raises(Exception, match='invalid dimensions'):
        run_onnx(path, one)


def test_one_input_and_an_image_with_nothing_in_it(tmp_path):
    """Without the second input; no proposal of the second image passes the threshold."""
    deploy = deploy_cfg('detection_onnxruntime_dynamic', input_names=['input'])
    deploy.codebase_config.image_size_input = False
    model = build(tiny_cfg('cascade'), deploy)
    batch = make_images([(224, 352), (224, 352)], 32, seed=3)
    assert batch.inputs.shape[-2:] == (224, 352), 'nothing padded'
    batch.inputs[1] = 0
    with torch.no_grad():
        heats = model.rpn_head(model.extract_feat(batch.inputs))[0]
    peaks = [max(h[i].sigmoid().max().item() for h in heats) for i in (0, 1)]
    assert peaks[0] > peaks[1]
    model.rpn_head.test_cfg.score_thr = sum(peaks) / 2
    path = export_model(model, deploy, EXAMPLE, tmp_path)
    assert [value.name for value in onnx.load(path).graph.input] == ['input']
    ours, theirs = run_onnx(path, batch), run_torch(model, batch)
    assert len(theirs[0]) > 0 and len(theirs[1]) == 0
    assert_same(ours, theirs)
    empty = Images(batch.inputs[1:], batch.shapes[1:])
    assert_same(run_onnx(path, empty), theirs[1:])


def test_what_a_file_says():
    info = build_metadata(tiny_cfg('LVIS, sigmoid'), deploy_cfg('detection_onnxruntime_dynamic'))
    assert len(info['classes']) == 1203
    assert info['task'] == 'bbox'
    assert info['score_thr'] == pytest.approx(0.02)
    assert info['decoder'] == 'pillow'
    assert info['resize'] == dict(
        scale=[800, 1333],
        keep_ratio=True,
        short_side=True,
        backend='pillow',
        interpolation='bilinear',
    )


@pytest.mark.parametrize(
    'changes, wanted',
    [
        (
            dict(rounding='down'),
            dict(scale=[1333, 800], keep_ratio=True, short_side=False, round_down=True),
        ),
        (
            dict(keep_ratio=False),
            dict(scale=[1333, 800], keep_ratio=False, short_side=False, round_down=False),
        ),
        (
            dict(_scope_='mmdet'),
            dict(scale=[1333, 800], keep_ratio=True, short_side=False, round_down=False),
        ),
    ],
)
def test_how_a_file_says_that_images_are_resized(changes, wanted):
    cfg = tiny_cfg('cascade')
    cfg.test_dataloader.dataset.pipeline[1].update(changes)
    cfg.pop('test_pipeline')
    info = build_metadata(cfg, deploy_cfg('detection_onnxruntime_dynamic'))
    assert info['resize'] == dict(wanted, backend='pillow', interpolation='bilinear')


def test_what_a_file_could_not_say_is_refused():
    deploy = deploy_cfg('detection_onnxruntime_dynamic')
    with pytest.raises(ValueError, match='3 classes.*names 80'):
        build_metadata(tiny_cfg('cascade', roi_head__bbox_head__num_classes=3), deploy)
    cfg = tiny_cfg('cascade')
    cfg.test_dataloader.dataset.pipeline[1].interpolation = 'spline'
    cfg.pop('test_pipeline')
    with pytest.raises(ValueError, match="'resize.interpolation' is 'spline', not one of"):
        build_metadata(cfg, deploy)


def test_what_cannot_be_exported_says_why():
    with pytest.raises(ValueError, match='only plain NMS'):
        nms_threshold(dict(type='soft_nms'))
    boxes, scores = torch.zeros(1, 1, 4), torch.zeros(1, 1, 1)
    with pytest.raises(ValueError, match='class_agnostic'):
        best_classes(boxes, scores, 0.0, dict(type='nms', class_agnostic=True), 1)


def test_deformable_convolutions_need_opset_19(tmp_path):
    deploy = deploy_cfg('detection_onnxruntime_dynamic', opset_version=17)
    layer = ModulatedDeformConv2dPack(1, 1, 3)
    with RewriterContext(deploy, backend='onnxruntime', ir=IR.ONNX, opset=17):
        with pytest.raises(ValueError, match='opset 19'):
            torch.onnx.export(
                layer, (torch.zeros(1, 1, 4, 4),), str(tmp_path / 'layer.onnx'), opset_version=17
            )
