"""The cascade's training against the slow reference."""

import pytest
import torch

from tests.reference import cascade
from tests.reference.layout import Box
from tests.test_models.crowds import CROWD

from . import small

KEYS = [f's{k}.{name}' for k in range(3) for name in ('loss_cls', 'acc', 'loss_bbox')]
#: The crowd's classes; of its two equal boxes, too, they differ.
LABELS = tuple(i % small.NUM_CLASSES for i in range(25))


def near(box: Box, dx: float, dy: float, dw: float) -> Box:
    """A box nearby, with an IoU that depends on the shift."""
    return (box[0] + dx, box[1] + dy, box[2] + dx + dw, box[3] + dy)


def crowd_proposals() -> list:
    """Near and far, beyond the image's border, and outside of it."""
    return (
        [near(box, 0.7, -0.4, 1.3) for box in CROWD]
        + [near(box, -6, 4, 9) for box in CROWD]
        + [(120.0, 5.0, 170.0, 60.0), (-30.0, -30.0, -1.0, -2.0), (151.0, 101.0, 160.0, 120.0)]
    )


def reference_losses(roi_head, x, proposals, boxes, labels) -> dict:
    """Of the reference; ground truth is among the RoIs of the first stage."""
    rois = [list(p) + list(b) for p, b in zip(proposals, boxes)]
    found = cascade.train_cascade(
        rois,
        boxes,
        labels,
        small.SIZES,
        [small.head_of(roi_head, x, i) for i in range(len(boxes))],
        small.NUM_CLASSES,
    )
    return {
        f's{k}.{name}': value
        for k, pair in enumerate(found)
        for name, value in zip(('loss_cls', 'loss_bbox'), pair)
    }


def train(roi_head, x, proposals, boxes, labels) -> dict:
    return roi_head.loss(x, [small.proposals(p) for p in proposals], small.samples(boxes, labels))


def assert_losses_agree(proposals, boxes, labels) -> dict:
    roi_head, x = small.build(), small.features()
    found = train(roi_head, x, proposals, boxes, labels)
    assert list(found) == KEYS
    wanted = reference_losses(roi_head, x, proposals, boxes, labels)
    values = {k: v.item() for k, v in small.losses_only(found).items()}
    assert values == pytest.approx(wanted, rel=1e-4)
    return values


def test_two_images_of_different_size():
    boxes = (CROWD, ((5.0, 5.0, 60.0, 40.0), (20.0, 30.0, 88.0, 127.0)))
    proposals = (
        crowd_proposals(),
        [(8.0, 3.0, 63.0, 41.0), (80.0, 60.0, 99.0, 140.0), (22.0, 30.0, 80.0, 120.0)],
    )
    values = assert_losses_agree(proposals, boxes, (LABELS, (0, 2)))
    assert all(v > 0 for v in values.values())


def test_crowded_image_beside_an_empty_one():
    """With gradients to every parameter and feature."""
    proposals = (crowd_proposals(), [(8.0, 3.0, 63.0, 41.0)])
    assert_losses_agree(proposals, (CROWD, ()), (LABELS, ()))

    torch.manual_seed(0)
    roi_head, x = small.build(), small.features()
    found = train(roi_head, x, proposals, (CROWD, ()), (LABELS, ()))
    sum(small.losses_only(found).values()).backward()
    for name, parameter in roi_head.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any(), name
    assert x[0].grad[0].any() and x[0].grad[1].any()


def test_no_object_in_the_batch():
    """Background is learnt, boxes are not; nothing breaks."""
    proposals = ([(8.0, 3.0, 63.0, 41.0)], [(8.0, 3.0, 63.0, 41.0), (1.0, 2.0, 9.0, 7.0)])
    values = assert_losses_agree(proposals, ((), ()), ((), ()))
    for k in range(3):
        assert values[f's{k}.loss_cls'] > 0
        assert values[f's{k}.loss_bbox'] == 0


def test_no_roi_at_all():
    """Zero losses under the same names, and a graph through the heads."""
    roi_head, x = small.build(), small.features()
    found = train(roi_head, x, ([], []), ((), ()), ((), ()))
    assert list(found) == KEYS
    assert all(v.item() == 0 for v in small.losses_only(found).values())
    sum(small.losses_only(found).values()).backward()
    for name, parameter in roi_head.named_parameters():
        assert parameter.grad is not None and not parameter.grad.any(), name


def test_image_without_proposals_beside_one_with():
    assert_losses_agree(
        ([], [(8.0, 3.0, 63.0, 41.0)]),
        (((5.0, 5.0, 60.0, 40.0),), ((6.0, 3.0, 60.0, 41.0),)),
        ((1,), (2,)),
    )


def test_equal_objects_of_two_classes_are_matched_to_the_first():
    """Ground truth among the RoIs is matched like any other RoI."""
    box = (20.0, 30.0, 80.0, 90.0)
    other = (5.0, 5.0, 60.0, 40.0)
    assert_losses_agree(
        ([(18.0, 30.0, 81.0, 88.0)], []), ((other, box, box), (box,)), ((3, 2, 1), (1,))
    )
    data_samples = small.samples(((box, box), ()), ((2, 1), ()))
    small.build().loss(small.features(), [small.proposals([]), small.proposals([])], data_samples)
    assert data_samples[0].gt_instances.labels.tolist() == [2, 1]


def test_later_stages_take_every_box_that_is_not_empty(monkeypatch):
    """Ground truth included, nothing added: boxes do not move here."""
    roi_head, x = small.build(), small.features()
    for head in roi_head.bbox_head:
        torch.nn.init.zeros_(head.fc_reg.weight)
    seen = small.record_rois(roi_head, monkeypatch)
    objects = ((10.0, 10.0, 50.0, 50.0), (130.0, 80.0, 170.0, 90.0))
    proposals = ((12.0, 8.0, 49.0, 50.0), (160.0, 10.0, 180.0, 30.0), (-10.0, -10.0, 30.0, 30.0))
    train(roi_head, x, (proposals, ()), (objects, ()), ((0, 1), ()))
    kept = {
        (10.0, 10.0, 50.0, 50.0),
        (130.0, 80.0, 150.0, 90.0),
        (12.0, 8.0, 49.0, 50.0),
        (0.0, 0.0, 30.0, 30.0),
    }
    assert {tuple(r[1:].tolist()) for r in seen[0]} == {*objects, *proposals}
    for stage in (1, 2):
        assert len(seen[stage]) == 4
        assert {tuple(r[1:].tolist()) for r in seen[stage]} == kept


def test_first_stage_samples_512_with_at_most_128_positives(monkeypatch):
    """The second stage takes all 512."""
    roi_head, x = small.build(), small.features()
    for head in roi_head.bbox_head:
        torch.nn.init.zeros_(head.fc_reg.weight)
    seen = small.record_rois(roi_head, monkeypatch)
    box = (20.0, 20.0, 100.0, 90.0)
    close = [near(box, i / 100, 0, 0) for i in range(300)]
    far = [(100.0 + i / 100, 60.0, 140.0 + i / 100, 99.0) for i in range(900)]
    train(roi_head, x, (close + far, ()), ((box,), ()), ((1,), ()))
    positive = (seen[0][:, 1] < 30).sum().item()
    assert (len(seen[0]), positive) == (512, 128)
    assert len(seen[1]) == len(seen[2]) == 512


@pytest.mark.parametrize('stage', [0, 1, 2])
def test_features_get_a_third_of_the_gradient_and_heads_all_of_it(stage):
    """See docs/differences.md, 29."""
    roi_head = small.build()
    rois = torch.tensor([[0.0, 8, 3, 63, 41], [1.0, 20, 20, 50, 90]])
    grads = {}
    for mode in (True, False):
        torch.manual_seed(1)
        x = small.features()
        roi_head.train(mode).zero_grad()
        found = roi_head._bbox_forward(stage, x, rois)
        (found['cls_score'].sum() + 2 * found['bbox_pred'].sum()).backward()
        grads[mode] = (x[0].grad, [p.grad.clone() for p in roi_head.bbox_head[stage].parameters()])
    assert grads[False][0].any()
    assert torch.allclose(3 * grads[True][0], grads[False][0], rtol=1e-5)
    for a, b in zip(grads[True][1], grads[False][1]):
        assert torch.equal(a, b)


def test_single_stage():
    """Losses are those of the cascade's first stage."""
    roi_head, x = small.build(single=True), small.features()
    found = train(roi_head, x, (crowd_proposals(), []), (CROWD, ()), (LABELS, ()))
    assert list(found) == ['loss_cls', 'acc', 'loss_bbox']
    rois = [*crowd_proposals(), *CROWD]
    wanted = cascade.stage_losses(
        *small.head_of(roi_head, x, 0)(0, rois),
        cascade.stage_targets(rois, CROWD, LABELS, 0, small.NUM_CLASSES),
    )
    assert (found['loss_cls'].item(), found['loss_bbox'].item()) == pytest.approx(wanted, rel=1e-4)


def test_stages_learn_from_their_own_boxes_only():
    """Boxes of a stage carry no gradient into the next one."""
    roi_head, x = small.build(), small.features()
    found = train(roi_head, x, (crowd_proposals(), []), (CROWD, ()), (LABELS, ()))
    (found['s1.loss_cls'] + found['s2.loss_bbox']).backward()
    assert all(p.grad is None for p in roi_head.bbox_head[0].parameters())
