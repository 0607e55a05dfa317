"""Box heads with the federated loss: ours and mmdet's."""

import math
from types import SimpleNamespace

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_centernet2.models.roi_heads.centernet2_roi_head import fuse_scores
from tests.test_models.test_roi_heads import small

HEADS = ['CenterNet2BBoxHead', 'Shared2FCBBoxHead']
FREQUENCIES = [1, 2, 30, 400]


def build(head='CenterNet2BBoxHead', **kwargs):
    built = MODELS.build(
        dict(
            type=head,
            in_channels=4,
            roi_feat_size=7,
            fc_out_channels=64,
            num_classes=4,
            reg_class_agnostic=True,
            loss_cls=dict(type='FederatedLoss', num_sampled_classes=3, cat_freq=FREQUENCIES),
            loss_bbox=dict(type='L1Loss'),
            **kwargs,
        )
    )
    built.init_weights()
    return built


@pytest.mark.parametrize('head', HEADS)
def test_losses_and_tensors(head):
    head = build(head).eval()  # all logits
    assert head.fc_cls.weight.shape == (5, 64)
    assert set(head.state_dict()) == {
        f'{layer}.{part}'
        for layer in ('shared_fcs.0', 'shared_fcs.1', 'fc_cls', 'fc_reg')
        for part in ('weight', 'bias')
    }
    labels = torch.tensor([0, 2, 4, 4, 4, 4])
    scores, deltas = head(torch.randn(6, 4, 7, 7))
    losses = head.loss(
        scores,
        deltas,
        torch.zeros(6, 5),
        labels,
        torch.ones(6),
        torch.zeros(6, 4),
        torch.ones(6, 4),
    )
    assert set(losses) == {'loss_cls', 'acc', 'loss_bbox'}
    expected = (
        torch.nn.functional.binary_cross_entropy_with_logits(
            scores[:, [0, 2]], torch.eye(3)[[0, 1, 2, 2, 2, 2]][:, :2], reduction='sum'
        )
        / 6
    )
    # Classes 0, 2 and the background fill the three places.
    assert losses['loss_cls'].item() == pytest.approx(expected.item(), rel=1e-5)
    losses['loss_cls'].backward()
    used = head.fc_cls.weight.grad.abs().sum(dim=1) > 0
    assert used.tolist() == [True, False, True, False, False]


def train(head, feats, labels):
    """Losses of RoIs in one image; the first ones have these labels."""
    xy = torch.rand(len(feats), 2) * 50
    boxes = torch.cat([xy, xy + 9], 1)
    num = len(labels)
    sampled = SimpleNamespace(
        rois=torch.cat([boxes[:, :1] * 0, boxes], 1),
        pos_inds=torch.arange(num),
        gt_bboxes=boxes[:num] + torch.rand(num, 4),
        gt_labels=labels,
    )
    return head.loss_and_target(*head(feats), sampled, ConfigDict(pos_weight=-1))


def both_ways(num_classes, num_rois, num_foreground, **loss):
    """Losses and gradients, of the chosen columns and of all with a mask."""
    torch.manual_seed(0)
    head = build()
    head.num_classes = num_classes
    head.fc_cls = torch.nn.Linear(64, num_classes + 1)
    head.loss_cls = MODELS.build(dict(type='FederatedLoss', **loss))
    labels = torch.randint(num_classes, (num_foreground,))
    feats = torch.randn(num_rois, 4, 7, 7, requires_grad=True)
    results = []
    for training in (True, False):
        head.train(training)
        torch.manual_seed(1)
        losses = train(head, feats, labels)
        wanted = [feats, *head.parameters()]
        results.append(
            (losses, torch.autograd.grad(losses['loss_cls'] + losses['loss_bbox'], wanted))
        )
    return results


@pytest.mark.parametrize(
    'num_rois, num_foreground, loss',
    [
        (40, 9, dict(num_sampled_classes=20)),
        (40, 40, dict(num_sampled_classes=5)),
        (6, 0, dict(num_sampled_classes=1)),
        (0, 0, dict(num_sampled_classes=20)),
        (12, 4, dict(num_sampled_classes=None)),
    ],
)
def test_chosen_columns_give_what_all_columns_give(num_rois, num_foreground, loss):
    found, wanted = both_ways(100, num_rois, num_foreground, cat_freq=range(1, 101), **loss)
    assert found[0].keys() == wanted[0].keys()
    for name in ('loss_cls', 'loss_bbox'):
        torch.testing.assert_close(found[0][name], wanted[0][name])
    for one, other in zip(found[1], wanted[1]):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


class Sizes(TorchDispatchMode):
    """Notes how many numbers each operation makes, views aside."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not func.is_view:
            self.sizes.append((out.numel(), str(func)))
        return out


def test_no_logit_of_another_class_exists():
    """Neither forward nor backward, nor for the accuracy."""
    num_classes, num_rois = 13204, 64
    head = build()
    head.num_classes = num_classes
    head.fc_cls = torch.nn.Linear(64, num_classes + 1)
    head.loss_cls = MODELS.build(dict(type='FederatedLoss', cat_freq=range(1, num_classes + 1)))
    labels = torch.arange(num_rois) * 200
    with Sizes() as made:
        losses = train(head, torch.randn(num_rois, 4, 7, 7), labels)
        losses['loss_cls'].backward()
    weight = head.fc_cls.weight
    assert weight.grad.shape == weight.shape
    rows = weight.grad.abs().sum(1).nonzero().flatten()
    assert rows.tolist() == labels.tolist()  # more than 50 have appeared
    # the gradient of the weight is made once, and nothing else is as large
    large = [name for size, name in made.sizes if size > num_classes]
    assert set(large) <= {'aten.index_copy_.default', 'aten.detach.default'}


def test_accuracy_is_that_among_the_chosen_classes():
    loss = MODELS.build(dict(type='FederatedLoss', cat_freq=None))
    logits = torch.tensor([[2.0, 1], [0, 1], [5, 4]])
    classes = torch.tensor([7, 3])
    found = loss.get_accuracy(logits, torch.tensor([7, 7, 9]), classes)
    assert found['acc'].tolist() == [50.0]
    nothing = loss.get_accuracy(logits[:, :0], torch.tensor([9, 9, 9]), classes[:0])
    assert nothing['acc'].tolist() == [0.0]


@pytest.mark.parametrize('single', [False, True])
def test_second_stages_train_on_chosen_columns(single, monkeypatch):
    roi_head = small.build(single)
    heads = [roi_head.bbox_head] if single else list(roi_head.bbox_head)
    for head in heads:
        head.loss_cls = MODELS.build(
            dict(type='FederatedLoss', num_sampled_classes=3, cat_freq=FREQUENCIES)
        )
        monkeypatch.setattr(
            head.fc_cls, 'forward', lambda x: pytest.fail('all logits were computed')
        )
    losses = roi_head.loss(
        small.features(),
        [small.proposals([(0.0, 0.0, 30.0, 30.0), (60.0, 60.0, 90.0, 90.0)]) for _ in range(2)],
        small.samples([[(0.0, 0.0, 28.0, 30.0)], [(61.0, 60.0, 90.0, 90.0)]], [[1], [3]]),
    )
    sum(v.sum() for k, v in losses.items() if 'loss' in k).backward()
    for head in heads:
        assert head.fc_cls.weight.grad.abs().sum() > 0


def test_scores_start_at_the_prior():
    head = build()
    assert head.fc_cls.bias.tolist() == pytest.approx([-math.log(99)] * 5)
    assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.2)
    assert not head.fc_reg.bias.any()


def test_probabilities_are_sigmoids():
    scores = torch.randn(3, 5, dtype=torch.float64)
    probs = build().get_probs(scores)
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs, scores.float().sigmoid())


def test_mmdets_own_inference_uses_the_sigmoid():
    head = build('Shared2FCBBoxHead')
    logits = torch.tensor([[2.0, -1, -1, 3, 0], [-3, 1, -4, -5, 9]])
    rois = torch.tensor([[0.0, 0, 0, 20, 20], [0, 40, 40, 70, 80]])
    (found,) = head.predict_by_feat(
        (rois,),
        (logits,),
        (torch.zeros(2, 4),),
        [dict(img_shape=(100, 100))],
        ConfigDict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10),
    )
    order = found.labels.argsort()
    assert found.labels[order].tolist() == [0, 1, 3]
    assert found.scores[order].tolist() == pytest.approx(
        torch.tensor([2.0, 1, 3]).sigmoid().tolist()
    )


def test_cascade_averages_sigmoids_and_weighs_by_the_proposals():
    roi_head = small.build(score_thr=0.0, max_per_img=300)
    logits = torch.tensor([[0.5, -1, 2, 0, 7], [-2, 0, 1, 3, -7]])
    loss = MODELS.build(dict(type='FederatedLoss', cat_freq=FREQUENCIES))
    for head in roi_head.bbox_head:
        head.loss_cls = loss
        torch.nn.init.zeros_(head.fc_reg.weight)
    stages = [logits * (stage + 1) for stage in range(3)]
    roi_head._bbox_forward = lambda stage, x, rois: dict(
        cls_score=stages[stage], bbox_pred=torch.zeros(2, 4)
    )
    props = small.proposals([(0, 0, 20, 20), (60, 60, 90, 90)], [0.9, 0.4])
    (found,) = roi_head.predict_bbox(
        (torch.zeros(1, 1, 1, 1),), small.metas()[:1], [props], roi_head.test_cfg
    )
    expected = fuse_scores(sum(s.sigmoid() for s in stages) / 3, props.scores)[:, :4]
    assert found.scores.tolist() == pytest.approx(
        expected.flatten().sort(descending=True).values.tolist()
    )
