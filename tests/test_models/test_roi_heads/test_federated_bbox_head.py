"""Box heads with the federated loss: ours and mmdet's."""
import math

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mmdet_centernet2.models.task_modules.score_fusion import fuse_scores
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
            loss_cls=dict(
                type='FederatedLoss',
                num_sampled_classes=3,
                cat_freq=FREQUENCIES),
            loss_bbox=dict(type='L1Loss'),
            **kwargs))
    built.init_weights()
    return built


@pytest.mark.parametrize('head', HEADS)
def test_losses_and_tensors(head):
    head = build(head)
    assert head.fc_cls.weight.shape == (5, 64)
    assert set(head.state_dict()) == {
        f'{layer}.{part}'
        for layer in ('shared_fcs.0', 'shared_fcs.1', 'fc_cls', 'fc_reg')
        for part in ('weight', 'bias')
    }
    labels = torch.tensor([0, 2, 4, 4, 4, 4])
    scores, deltas = head(torch.randn(6, 4, 7, 7))
    losses = head.loss(scores, deltas, torch.zeros(6, 5), labels,
                       torch.ones(6), torch.zeros(6, 4), torch.ones(6, 4))
    assert set(losses) == {'loss_cls', 'acc', 'loss_bbox'}
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        scores[:, [0, 2]],
        torch.eye(3)[[0, 1, 2, 2, 2, 2]][:, :2],
        reduction='sum') / 6
    # Classes 0, 2 and the background fill the three places.
    assert losses['loss_cls'].item() == pytest.approx(
        expected.item(), rel=1e-5)
    losses['loss_cls'].backward()
    used = head.fc_cls.weight.grad.abs().sum(dim=1) > 0
    assert used.tolist() == [True, False, True, False, False]


def test_scores_start_at_the_prior():
    head = build()
    assert head.fc_cls.bias.tolist() == pytest.approx([-math.log(99)] * 5)
    assert head.fc_cls.weight.std().item() == pytest.approx(.01, rel=.2)
    assert not head.fc_reg.bias.any()


def test_probabilities_are_sigmoids():
    scores = torch.randn(3, 5, dtype=torch.float64)
    probs = build().get_probs(scores)
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs, scores.float().sigmoid())


def test_mmdets_own_inference_uses_the_sigmoid():
    head = build('Shared2FCBBoxHead')
    logits = torch.tensor([[2., -1, -1, 3, 0], [-3, 1, -4, -5, 9]])
    rois = torch.tensor([[0., 0, 0, 20, 20], [0, 40, 40, 70, 80]])
    found, = head.predict_by_feat((rois, ), (logits, ), (torch.zeros(2, 4), ),
                                  [dict(img_shape=(100, 100))],
                                  ConfigDict(
                                      score_thr=.5,
                                      nms=dict(type='nms', iou_threshold=.5),
                                      max_per_img=10))
    order = found.labels.argsort()
    assert found.labels[order].tolist() == [0, 1, 3]
    assert found.scores[order].tolist() == pytest.approx(
        torch.tensor([2., 1, 3]).sigmoid().tolist())


def test_cascade_averages_sigmoids_and_weighs_by_the_proposals():
    roi_head = small.build(score_thr=0., max_per_img=300)
    logits = torch.tensor([[.5, -1, 2, 0, 7], [-2, 0, 1, 3, -7]])
    loss = MODELS.build(dict(type='FederatedLoss', cat_freq=FREQUENCIES))
    for head in roi_head.bbox_head:
        head.loss_cls = loss
        torch.nn.init.zeros_(head.fc_reg.weight)
    stages = [logits * (stage + 1) for stage in range(3)]
    roi_head._bbox_forward = lambda stage, x, rois: dict(
        cls_score=stages[stage], bbox_pred=torch.zeros(2, 4))
    props = small.proposals([(0, 0, 20, 20), (60, 60, 90, 90)], [.9, .4])
    found, = roi_head.predict_bbox((), small.metas()[:1], [props],
                                   roi_head.test_cfg)
    expected = fuse_scores(
        sum(s.sigmoid() for s in stages) / 3, props.scores)[:, :4]
    assert found.scores.tolist() == pytest.approx(
        expected.flatten().sort(descending=True).values.tolist())
