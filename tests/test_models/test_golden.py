# ruff: noqa: E501
"""The original's numbers: the same weights, the same input, the same results.

``tests/data/golden`` holds what the original computes from weights and inputs
that anyone can compute (see the README there and ``tests/golden.py``). The
weights travel the way a user's would: through the converter, loaded strictly.
A further model needs its file there and a line in ``CONFIG_OF``.
"""

import gc
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox2roi
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_centernet2.checkpoint.convert import convert_state_dict
from mmdet_centernet2.models.dense_heads import CenterNet2ProposalHead
from tests import golden
from tests.paths import CONFIGS
from tests.test_checkpoint._synthetic import original_shapes
from tests.test_configs.recipes import RECIPES

pytestmark = pytest.mark.slow

#: Name of the original's model -> config of this project;
#: those that share tensors stand together.
CONFIG_OF = {
    'CenterNet-FPN_R50_1x': 'centernet/centernet_r50-caffe_fpn_ms-1x_coco.py',
    'CenterNet2-F_R50_1x': 'centernet2/centernet2-faster_r50-caffe_fpn_ms-1x_coco.py',
    'CenterNet2_R50_1x': 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
    'LVIS_CenterNet2_R50_1x': 'centernet2/centernet2_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py',
    'LVIS_CenterNet2_R50_Fed_1x': 'centernet2/centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py',
    'O365_CenterNet2_R50_1x': 'centernet2/centernet2_r50-caffe_fpn_ms-cas-1x_objects365v1.py',
    'CenterNet2_X101-DCN_2x': 'centernet2/centernet2_x101-32x8d-mdconv-c4-c5_fpn_ms-2x_coco.py',
    'CenterNet-S4_DLA_8x': 'centernet/centernet-s4_dla34_crop640-8x_coco.py',
    'nuImages_CenterNet2_DLA_640_8x': 'centernet2/centernet2-mask_dla34_crop640-8x_nuimages.py',
    'CenterNet2_DLA-BiFPN-P3_4x': 'centernet2/centernet2_dla34_fcos-bifpn-p3_ms-4x_coco.py',
    'CenterNet2_DLA-BiFPN-P5_640_16x': 'centernet2/centernet2_dla34_bifpn-p5_crop640-16x_coco.py',
    'CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST': 'centernet2/centernet2_dla34_fcos-bifpn-p5_crop640-16x-st_coco.py',
    'CenterNet2_R2-101-DCN_896_4x': 'centernet2/centernet2_r2-101-mdconv-c4-c5_fpn_crop896-4x_coco.py',
    'CenterNet2_R2-101-DCN-BiFPN_1280_4x': 'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco.py',
}
#: Configs whose network is that of another one, which is in ``CONFIG_OF``.
SAME_NETWORK = {
    'centernet2/centernet2_dla34_fcos-bifpn-p3_ms-24x_coco.py': 'CenterNet2_DLA-BiFPN-P3_4x',
    'centernet2/centernet2_dla34_bifpn-p5_crop640-16x-st_coco.py': 'CenterNet2_DLA-BiFPN-P5_640_16x',
    'centernet2/centernet2_dla34_fcos-bifpn-p5_crop640-24x-st_coco.py': 'CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST',
    'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x+4x-st_coco'
    '.py': 'CenterNet2_R2-101-DCN-BiFPN_1280_4x',
}
#: Largest relative deviation.
TOLERANCE = 1e-4
#: Loss of the original without the stage -> ours without the stage.
ROI_LOSSES = dict(loss_cls='loss_cls', loss_box_reg='loss_bbox', loss_mask='s0.loss_mask')
#: Model -> what was compared -> largest deviation; see ``conftest.py``.
DEVIATIONS: dict[str, dict[str, float]] = {}


class Parity(NamedTuple):
    """A model with the recipe's weights, what it computes, and the truth."""

    name: str
    model: nn.Module
    features: list[Tensor]
    heats: list[Tensor]
    ltrbs: list[Tensor]
    meta: dict
    truth: dict

    @property
    def head(self) -> nn.Module:
        """The CenterNet head, of whichever kind."""
        return getattr(self.model, 'rpn_head', None) or self.model.bbox_head

    @property
    def one_stage(self) -> bool:
        """Whether neither side has a second stage."""
        has_roi_head = hasattr(self.model, 'roi_head')
        assert has_roi_head == ('roi_det_fixed_props' in self.truth)
        return not has_roi_head

    def check(self, what: str, error: float) -> None:
        """Fail on too large a deviation, remember any other."""
        assert error < TOLERANCE, f'{what}: {error}'
        worst = DEVIATIONS.setdefault(self.name, {})
        worst[what] = max(error, worst.get(what, 0.0))


def build(name: str) -> nn.Module:
    """Model of the project with the recipe's weights, in eval mode."""
    cfg = Config.fromfile(CONFIGS / CONFIG_OF[name]).model
    cfg.backbone.init_cfg = None
    model = MODELS.build(cfg)
    original = golden.golden_state_dict(
        original_shapes()[name].items(), golden.load_golden(name)['pixel_std']
    )
    model.load_state_dict(convert_state_dict(original).state_dict, strict=True)
    return model.eval()


@pytest.fixture(scope='module', params=CONFIG_OF)
def parity(request) -> Iterator[Parity]:
    truth = golden.load_golden(request.param)
    model = build(request.param)
    height, width = golden.IMAGE_SHAPE
    padded = tuple(truth['padded_shape'][-2:])
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        pad_shape=padded,
        batch_input_shape=padded,
        scale_factor=(1.0, 1.0),
    )
    head = getattr(model, 'rpn_head', None) or model.bbox_head
    with torch.no_grad():
        features = model.extract_feat(golden.golden_image(truth))
        heats, ltrbs = head(features)
    yield Parity(request.param, model, features, heats, ltrbs, meta, truth)
    gc.collect()  # one of these models at a time is enough


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def deviation(found: Tensor, wanted: list) -> float:
    """Largest relative deviation, small numbers against the largest."""
    wanted = torch.tensor(wanted, dtype=torch.float64)
    assert found.shape == wanted.shape
    return ((found.double() - wanted).abs().max() / wanted.abs().max()).item()


def fixed_proposals() -> InstanceData:
    return InstanceData(bboxes=golden.PROPOSALS.clone(), scores=golden.PROPOSAL_SCORES.clone())


def relative(found: dict[str, float], wanted: dict[str, float]) -> float:
    """Largest relative deviation of named numbers, all names compared.

    A loss that is zero has to be zero.
    """
    assert set(found) == set(wanted)
    return max(abs(found[k] - wanted[k]) / max(abs(wanted[k]), 1e-6) for k in wanted)


def box_masks(boxes: Sequence[Sequence[int]], height: int, width: int) -> BitmapMasks:
    """Each box as a filled mask."""
    masks = np.zeros((len(boxes), height, width), np.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = 1
    return BitmapMasks(masks, height, width)


def sample(parity: Parity) -> DetDataSample:
    """The recipe's objects: boxes, labels, and masks if they matter."""
    data_sample = DetDataSample(metainfo=parity.meta)
    data_sample.gt_instances = InstanceData(
        bboxes=golden.GT_BOXES.clone(), labels=golden.GT_LABELS.clone()
    )
    if not parity.one_stage and parity.model.roi_head.with_mask:
        data_sample.gt_instances.masks = box_masks(
            golden.GT_BOXES.int().tolist(), *golden.IMAGE_SHAPE
        )
    return data_sample


def test_the_normalisation_is_the_original_s(parity):
    preprocessor = parity.model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx(parity.truth['pixel_mean'])
    assert preprocessor.std.flatten().tolist() == pytest.approx(parity.truth['pixel_std'])


def test_input_is_preprocessed_to_the_golden_one(parity):
    """The recipe's image, as a data set gives it, through the preprocessor.

    It stands for an image whose channels are already in the network's order;
    data sets give the other one to networks that read RGB.
    """
    preprocessor = parity.model.data_preprocessor
    padded = golden.golden_image(parity.truth)
    height, width = golden.IMAGE_SHAPE
    mean, std = (
        torch.tensor(parity.truth[key]).view(3, 1, 1) for key in ('pixel_mean', 'pixel_std')
    )
    image = (padded[0, :, :height, :width] * std + mean).round()
    if preprocessor._channel_conversion:
        image = image.flip(0)
    found = preprocessor(dict(inputs=[image.byte()], data_samples=[sample(parity)]))['inputs']
    assert found.shape == padded.shape
    assert torch.allclose(found, padded, atol=1e-4)


def test_features(parity):
    assert len(parity.features) == len(parity.truth['features'])
    for found, stats in zip(parity.features, parity.truth['features'].values()):
        parity.check('features', golden.stats_error(found, stats))


def test_head_outputs(parity):
    assert len(parity.heats) == len(parity.truth['head'])
    for heat, ltrb, stats in zip(parity.heats, parity.ltrbs, parity.truth['head']):
        logits = stats['cls_logits'] if parity.one_stage else stats['agn_hm_logit']
        parity.check('head', golden.stats_error(heat, logits))
        parity.check('head', golden.stats_error(ltrb, stats['bbox_reg_relu']))


def test_first_stage_boxes(parity):
    """Proposals, or a one-stage model's detections before clipping."""
    head, truth = parity.head, parity.truth['first_stage']
    (found,) = CenterNet2ProposalHead.predict_by_feat(head, parity.heats, parity.ltrbs)
    assert len(found) == truth['n']
    parity.check('first stage', abs(found.scores.sum().item() / truth['score_sum'] - 1))
    best = truth['top5']
    if parity.one_stage:
        assert found.labels[:5].tolist() == [p['cls'] for p in best]
    parity.check('first stage', deviation(found.scores[:5], [p['score'] for p in best]))
    parity.check('first stage', deviation(found.bboxes[:5], [p['box'] for p in best]))


def test_pooled_rois(parity):
    if parity.one_stage:
        return
    extractor = parity.model.roi_head.bbox_roi_extractor
    if isinstance(extractor, nn.ModuleList):  # of a cascade
        extractor = extractor[0]
    pooled = extractor(parity.features[: extractor.num_inputs], bbox2roi([golden.PROPOSALS]))
    parity.check('pooled', golden.stats_error(pooled, parity.truth['roi_pooled']))


def test_every_cascade_stage(parity):
    """Of a single second stage the original's file says nothing here."""
    stages = parity.truth.get('roi_stages', [])
    roi_head = getattr(parity.model, 'roi_head', None)
    assert len(stages) == getattr(roi_head, 'num_stages', 0)
    rois = bbox2roi([golden.PROPOSALS])
    for k, truth in enumerate(stages):
        head = roi_head.bbox_head[k]
        found = roi_head._bbox_forward(k, parity.features, rois)
        logits, deltas = found['cls_score'], found['bbox_pred']
        boxes = head.bbox_coder.decode(rois[:, 1:], deltas)
        parity.check('stages', golden.stats_error(logits, truth['cls_logits']))
        parity.check('stages', golden.stats_error(head.get_probs(logits), truth['probs']))
        parity.check('stages', deviation(deltas, truth['deltas']))
        parity.check('stages', deviation(boxes, truth['boxes_unclipped']))
        rois = head.decode_rois(rois, deltas, [parity.meta])


def detections(parity: Parity) -> InstanceData:
    """What the second stage makes of the fixed proposals."""
    (found,) = parity.model.roi_head.predict_bbox(
        parity.features,
        [parity.meta],
        [fixed_proposals()],
        parity.model.test_cfg.rcnn,
        rescale=True,
    )
    return found


def test_detections_of_fixed_proposals(parity):
    """Matched one to one, in the original's order."""
    if parity.one_stage:
        return
    found, truth = detections(parity), parity.truth['roi_det_fixed_props']
    assert len(found) == truth['n']
    best = truth['top10']
    assert found.labels[:10].tolist() == [d['cls'] for d in best]
    parity.check('detections', deviation(found.scores[:10], [d['score'] for d in best]))
    parity.check('detections', deviation(found.bboxes[:10], [d['box'] for d in best]))


def test_masks_of_the_best_detections(parity):
    truth = parity.truth.get('mask_probs_first3')
    roi_head = getattr(parity.model, 'roi_head', None)
    assert bool(truth) == bool(roi_head and roi_head.with_mask)
    if not truth:
        return
    best = detections(parity)[:3]
    logits = roi_head._mask_forward(parity.features, bbox2roi([best.bboxes]))['mask_preds']
    probs = logits.sigmoid()[torch.arange(3), best.labels]
    parity.check('masks', golden.stats_error(probs[:, None], truth))


def test_first_stage_losses(parity):
    gt = sample(parity).gt_instances
    if parity.head.num_classes == 1:
        gt.labels = torch.zeros_like(gt.labels)  # as two-stage models do
    found = parity.head.loss_by_feat(parity.heats, parity.ltrbs, [gt], [parity.meta])
    parity.check(
        'losses',
        relative({k: v.item() for k, v in found.items()}, parity.truth['train_first_stage_losses']),
    )


def test_number_of_training_proposals(parity):
    if parity.one_stage:
        assert parity.truth['train_num_proposals'] is None
        return
    (found,) = parity.model.rpn_head.predict_by_feat(
        parity.heats, parity.ltrbs, [parity.meta], cfg=parity.model.train_cfg.rpn_proposal
    )
    assert len(found) == parity.truth['train_num_proposals']


def roi_losses(truth: dict[str, float]) -> dict[str, float]:
    """Losses of the original under this project's names."""
    renamed = {}
    for name, value in truth.items():
        kind, _, stage = name.partition('_stage')
        prefix = f's{stage}.' if stage else ''
        renamed[prefix + ROI_LOSSES[kind]] = value
    return renamed


def test_roi_losses(parity):
    """Proposals and ground truth are seven RoIs: nothing is left to chance.

    But in the federated loss, which draws classes; it has tests of its own.
    """
    truth = parity.truth.get('train_roi_losses')
    if truth is None:
        assert parity.one_stage or 'Fed' in parity.name
        return
    roi_head = parity.model.roi_head.train()
    try:
        found = roi_head.loss(parity.features, [fixed_proposals()], [sample(parity)])
    finally:
        roi_head.eval()
    losses = {k: v.item() for k, v in found.items() if 'loss' in k}
    parity.check('losses', relative(losses, roi_losses(truth)))


@pytest.mark.parametrize('name', SAME_NETWORK)
def test_the_same_network_in_another_recipe(name):
    """But for the channel order, which the original changes."""
    ours, other = (
        Config.fromfile(CONFIGS / file).model.to_dict()
        for file in (name, CONFIG_OF[SAME_NETWORK[name]])
    )
    for model in (ours, other):
        model['data_preprocessor'].pop('bgr_to_rgb')
    assert ours == other


def test_every_config_is_compared():
    assert {*CONFIG_OF.values(), *SAME_NETWORK} == set(RECIPES)
