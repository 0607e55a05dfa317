"""Detections against the slow reference."""

import pytest
import torch
from mmdet.utils import InstanceList

from tests.reference import cascade
from tests.reference.cascade import Detection
from tests.test_models import test_pretended_gpu as families

from . import small

BOXES = (
    [(10.0 + 3 * i, 5.0 + 2 * i, 60.0 + 4 * i, 50.0 + 3 * i) for i in range(20)]
    + [(-20.0, -10.0, 170.0, 110.0), (151.0, 20.0, 190.0, 60.0)],
    [(8.0, 3.0, 63.0, 41.0), (20.0, 30.0, 88.0, 127.0), (85.0, 10.0, 99.0, 150.0)],
)


def predict(roi_head, x, boxes=BOXES, rescale: bool = True) -> InstanceList:
    """Detections of both images, in one batch."""
    with torch.no_grad():
        return roi_head.eval().predict(
            x,
            [small.proposals(b) for b in boxes],
            small.samples([()] * 2, [()] * 2),
            rescale=rescale,
        )


def reference(roi_head, x, image: int, boxes, **test_cfg) -> list:
    """Detections of one image by the reference."""
    stages = len(roi_head.bbox_head) if isinstance(roi_head.bbox_head, torch.nn.ModuleList) else 1
    fused, moved = cascade.infer_cascade(
        boxes,
        small.proposals(boxes).scores.tolist(),
        small.SIZES[image],
        small.head_of(roi_head, x, image),
        stages,
    )
    return cascade.final_detections(
        fused, moved, small.SIZES[image], small.ORIGINAL_SIZES[image], **test_cfg
    )


def assert_same(found: list, wanted: list) -> None:
    """Equal up to rounding."""
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted):
        assert a == Detection(
            pytest.approx(b.score, rel=1e-4), b.label, pytest.approx(b.box, abs=5e-3)
        )


@pytest.mark.parametrize('single', [False, True])
@pytest.mark.parametrize('test_cfg', [{}, dict(max_per_img=5)])
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_detections(single, test_cfg, seed):
    torch.manual_seed(seed)
    roi_head, x = small.build(single, **test_cfg), small.features()
    limit = test_cfg.get('max_per_img', 100)
    for image, found in enumerate(predict(roi_head, x)):
        wanted = reference(roi_head, x, image, BOXES[image], limit=limit)
        assert 0 < len(wanted) <= limit
        assert_same(small.to_detections(found), wanted)


def test_scores_and_suppression_have_the_flagship_s_settings():
    """More than the threshold of 0.05, IoU of at most 0.7 in a class."""
    roi_head, x = small.build(), small.features()
    with torch.no_grad():
        for head in roi_head.bbox_head:
            head.fc_cls.bias[1] -= 7  # scores on both sides of the threshold
    found = small.to_detections(predict(roi_head, x, rescale=False)[0])
    fused, _ = cascade.infer_cascade(
        BOXES[0],
        small.proposals(BOXES[0]).scores.tolist(),
        small.SIZES[0],
        small.head_of(roi_head, x, 0),
    )
    scores = sorted(v for row in fused for v in row)
    assert scores[0] < 0.05 < scores[-1]
    assert min(d.score for d in found) > 0.05
    overlaps = [
        cascade.iou(a.box, b.box)
        for i, a in enumerate(found)
        for b in found[:i]
        if a.label == b.label
    ]
    assert 0.6 < max(overlaps) <= 0.7


def test_images_of_a_batch_do_not_mix():
    roi_head, x = small.build(), small.features()
    both = predict(roi_head, x)
    for i, found in enumerate(both):
        with torch.no_grad():
            (alone,) = roi_head.predict(
                tuple(level[i : i + 1] for level in x),
                [small.proposals(BOXES[i])],
                small.samples([()] * 2, [()] * 2)[i : i + 1],
                rescale=True,
            )
        assert len(found) == len(alone) > 0
        assert torch.equal(found.labels, alone.labels)
        assert torch.allclose(found.scores, alone.scores, atol=1e-6)
        assert torch.allclose(found.bboxes, alone.bboxes, atol=1e-3)


@pytest.mark.parametrize('single', [False, True])
@pytest.mark.parametrize('empty', [0, 1])
def test_one_image_without_proposals(single, empty):
    roi_head, x = small.build(single), small.features()
    boxes = [() if i == empty else BOXES[i] for i in range(2)]
    found = predict(roi_head, x, boxes)
    assert len(found[empty]) == 0
    assert found[empty].bboxes.shape == (0, 4)
    assert found[empty].scores.shape == found[empty].labels.shape == (0,)
    other = 1 - empty
    assert_same(small.to_detections(found[other]), reference(roi_head, x, other, BOXES[other]))


@pytest.mark.parametrize('single', [False, True])
def test_no_proposals_at_all(single):
    for found in predict(small.build(single), small.features(), ((), ())):
        assert found.bboxes.shape == (0, 4)
        assert found.scores.shape == found.labels.shape == (0,)


def test_boxes_that_leave_the_image_come_back():
    """At test an empty box stays in the cascade and may move in again."""
    roi_head, x = small.build(), small.features()
    for head in roi_head.bbox_head[:2]:
        torch.nn.init.zeros_(head.fc_reg.weight)
    outside = [(160.0, 20.0, 190.0, 60.0), (20.0, 20.0, 60.0, 60.0)]
    with torch.no_grad():
        rois, *_ = roi_head.eval()._run_stages(
            x, torch.tensor([(0.0, *box) for box in outside]), small.metas()
        )
    assert rois.tolist() == [[0, 150, 20, 150, 60], [0, 20, 20, 60, 60]]


def test_empty_detections_use_up_places_before_they_are_dropped():
    """The limit per image comes before clipping's victims are dropped."""
    roi_head, x = small.build(max_per_img=2), small.features()
    for head in roi_head.bbox_head:
        torch.nn.init.zeros_(head.fc_reg.weight)
        torch.nn.init.zeros_(head.fc_cls.weight)
        with torch.no_grad():
            head.fc_cls.bias.copy_(torch.tensor([5.0, 0, 0, 0, 0]))
    boxes = [(160.0, 20.0, 190.0, 60.0), (20.0, 20.0, 60.0, 60.0), (70.0, 20.0, 90.0, 90.0)]
    (found, _) = predict(roi_head, x, (boxes, ()), rescale=False)
    assert found.bboxes.tolist() == [[20, 20, 60, 60]]


def test_rows_that_are_not_finite_are_left_out():
    roi_head = small.build()
    boxes = [*BOXES[1], (float('nan'), 0.0, 20.0, 20.0)]
    with torch.no_grad():
        found = (
            roi_head.eval()
            .bbox_head[-1]
            ._predict_by_feat_single(
                torch.tensor([(0.0, *box) for box in boxes]),
                torch.tensor([[0.9, 0.1, 0.1, 0.1, 0.1]] * 4),
                torch.zeros(4, 4),
                small.metas()[1],
                True,
                roi_head.test_cfg,
            )
        )
    assert found.bboxes.isfinite().all()
    assert (found.labels == 0).sum() == 3


@pytest.mark.slow
def test_raw_outputs_with_masks():
    """``mode='tensor'``, which ``get_flops`` counts; mmdet's cascade has a mask head per stage."""
    model = families.build('centernet2/centernet2-mask_dla34_crop640-8x_nuimages').eval()
    with torch.no_grad():
        ((probs, deltas, masks),) = model(
            **model.data_preprocessor(families.batch()), mode='tensor'
        )
    assert len(probs) == len(deltas) == len(masks) > 0
    assert masks.dim() == 4
