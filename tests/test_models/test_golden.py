"""The original's numbers: the same weights, the same input, the same results.

``tests/data/golden`` holds what the original computes from weights and inputs
that anyone can compute (spec §10, ``tests/golden.py``). The weights travel
the way a user's would: through the converter, loaded strictly. A further
model needs its file there and a line in ``CONFIG_OF``.
"""
from typing import Dict, List, NamedTuple

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_centernet2.checkpoint.convert import convert_state_dict
from tests import golden
from tests.paths import CONFIGS
from tests.test_checkpoint._synthetic import original_shapes

#: Name of the original's model -> config of this project.
CONFIG_OF = {
    'CenterNet2_R50_1x': 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
}
#: Largest relative deviation.
TOLERANCE = 1e-4
#: Loss of the original without the stage -> ours without the stage.
ROI_LOSSES = dict(loss_cls='loss_cls', loss_box_reg='loss_bbox')


class Parity(NamedTuple):
    """A model with the recipe's weights, what it computes, and the truth."""

    model: nn.Module
    features: List[Tensor]
    heats: List[Tensor]
    ltrbs: List[Tensor]
    meta: dict
    truth: dict


def build(name: str) -> nn.Module:
    """Model of the project with the recipe's weights, in eval mode."""
    cfg = Config.fromfile(CONFIGS / CONFIG_OF[name]).model
    cfg.backbone.init_cfg = None
    model = MODELS.build(cfg)
    original = golden.golden_state_dict(original_shapes()[name].items(),
                                        golden.load_golden(name)['pixel_std'])
    model.load_state_dict(
        convert_state_dict(original).state_dict, strict=True)
    return model.eval()


@pytest.fixture(scope='module', params=CONFIG_OF)
def parity(request) -> Parity:
    truth = golden.load_golden(request.param)
    model = build(request.param)
    height, width = golden.IMAGE_SHAPE
    padded = tuple(truth['padded_shape'][-2:])
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        pad_shape=padded,
        batch_input_shape=padded,
        scale_factor=(1., 1.))
    with torch.no_grad():
        features = model.extract_feat(golden.golden_image(truth))
        heats, ltrbs = model.rpn_head(features)
    return Parity(model, features, heats, ltrbs, meta, truth)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def deviation(found: Tensor, wanted: list) -> float:
    """Largest relative deviation, small numbers against the largest."""
    wanted = torch.tensor(wanted, dtype=torch.float64)
    assert found.shape == wanted.shape
    return ((found.double() - wanted).abs().max() /
            wanted.abs().max()).item()


def fixed_proposals() -> InstanceData:
    return InstanceData(
        bboxes=golden.PROPOSALS.clone(), scores=golden.PROPOSAL_SCORES.clone())


def sample(parity: Parity) -> DetDataSample:
    data_sample = DetDataSample(metainfo=parity.meta)
    data_sample.gt_instances = InstanceData(
        bboxes=golden.GT_BOXES.clone(), labels=golden.GT_LABELS.clone())
    return data_sample


def test_the_normalisation_is_the_original_s(parity):
    preprocessor = parity.model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx(
        parity.truth['pixel_mean'])
    assert preprocessor.std.flatten().tolist() == pytest.approx(
        parity.truth['pixel_std'])


def test_input_is_preprocessed_to_the_golden_one(parity):
    """The recipe's image, as a data set gives it, through the preprocessor.

    It stands for an image whose channels are already in the network's order.
    """
    preprocessor = parity.model.data_preprocessor
    assert not preprocessor._channel_conversion
    padded = golden.golden_image(parity.truth)
    height, width = golden.IMAGE_SHAPE
    mean, std = (
        torch.tensor(parity.truth[key]).view(3, 1, 1)
        for key in ('pixel_mean', 'pixel_std'))
    image = (padded[0, :, :height, :width] * std + mean).round()
    found = preprocessor(
        dict(inputs=[image.byte()], data_samples=[DetDataSample()]))['inputs']
    assert torch.allclose(found, padded, atol=1e-4)


def test_features(parity):
    assert len(parity.features) == len(parity.truth['features'])
    for found, (level, stats) in zip(parity.features,
                                     parity.truth['features'].items()):
        assert golden.stats_error(found, stats) < TOLERANCE, level


def test_head_outputs(parity):
    assert len(parity.heats) == len(parity.truth['head'])
    for heat, ltrb, stats in zip(parity.heats, parity.ltrbs,
                                 parity.truth['head']):
        level = stats['level']
        assert golden.stats_error(heat,
                                  stats['agn_hm_logit']) < TOLERANCE, level
        assert golden.stats_error(ltrb,
                                  stats['bbox_reg_relu']) < TOLERANCE, level


def test_proposals(parity):
    (found, ) = parity.model.rpn_head.predict_by_feat(
        parity.heats, parity.ltrbs, [parity.meta])
    truth = parity.truth['first_stage']
    assert len(found) == truth['n']
    assert found.scores.sum().item() == pytest.approx(
        truth['score_sum'], rel=TOLERANCE)
    best = truth['top5']
    assert deviation(found.scores[:5], [p['score'] for p in best]) < TOLERANCE
    assert deviation(found.bboxes[:5], [p['box'] for p in best]) < TOLERANCE


def test_pooled_rois(parity):
    extractor = parity.model.roi_head.bbox_roi_extractor[0]
    pooled = extractor(parity.features[:extractor.num_inputs],
                       bbox2roi([golden.PROPOSALS]))
    assert golden.stats_error(pooled, parity.truth['roi_pooled']) < TOLERANCE


def test_every_cascade_stage(parity):
    roi_head = parity.model.roi_head
    rois = bbox2roi([golden.PROPOSALS])
    assert len(parity.truth['roi_stages']) == roi_head.num_stages
    for k, truth in enumerate(parity.truth['roi_stages']):
        head = roi_head.bbox_head[k]
        found = roi_head._bbox_forward(k, parity.features, rois)
        logits, deltas = found['cls_score'], found['bbox_pred']
        boxes = head.bbox_coder.decode(rois[:, 1:], deltas)
        assert golden.stats_error(logits, truth['cls_logits']) < TOLERANCE, k
        assert golden.stats_error(head.get_probs(logits),
                                  truth['probs']) < TOLERANCE, k
        assert deviation(deltas, truth['deltas']) < TOLERANCE, k
        assert deviation(boxes, truth['boxes_unclipped']) < TOLERANCE, k
        rois = head.decode_rois(rois, deltas, [parity.meta])


def test_detections_of_fixed_proposals(parity):
    """Matched one to one, in the original's order."""
    model, truth = parity.model, parity.truth['roi_det_fixed_props']
    (found, ) = model.roi_head.predict(
        parity.features, [fixed_proposals()], [sample(parity)], rescale=True)
    assert len(found) == truth['n']
    best = truth['top10']
    assert found.labels[:10].tolist() == [d['cls'] for d in best]
    assert deviation(found.scores[:10], [d['score'] for d in best]) < TOLERANCE
    assert deviation(found.bboxes[:10], [d['box'] for d in best]) < TOLERANCE


def test_first_stage_losses(parity):
    found = parity.model.rpn_head.loss_by_feat(
        parity.heats, parity.ltrbs, [sample(parity).gt_instances],
        [parity.meta])
    assert {k: v.item() for k, v in found.items()} == pytest.approx(
        parity.truth['train_first_stage_losses'], rel=TOLERANCE)


def test_number_of_training_proposals(parity):
    (found, ) = parity.model.rpn_head.predict_by_feat(
        parity.heats,
        parity.ltrbs, [parity.meta],
        cfg=parity.model.train_cfg.rpn_proposal)
    assert len(found) == parity.truth['train_num_proposals']


def roi_losses(truth: Dict[str, float]) -> Dict[str, float]:
    """Losses of the original under this project's names."""
    renamed = {}
    for name, value in truth.items():
        kind, _, stage = name.partition('_stage')
        prefix = f's{stage}.' if stage else ''
        renamed[prefix + ROI_LOSSES[kind]] = value
    return renamed


def test_roi_losses(parity):
    """Proposals and ground truth are seven RoIs: nothing is left to chance."""
    roi_head = parity.model.roi_head.train()
    try:
        found = roi_head.loss(parity.features, [fixed_proposals()],
                              [sample(parity)])
    finally:
        roi_head.eval()
    losses = {k: v.item() for k, v in found.items() if 'loss' in k}
    assert losses == pytest.approx(
        roi_losses(parity.truth['train_roi_losses']), rel=TOLERANCE)
