"""The proposal head: construction, forward, losses, proposals."""

import math

import pytest
import torch
from hypothesis import given, settings
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch._dynamo.testing import CompileCounterWithBackend

from mmdet_centernet2.models.losses import heatmap_focal_loss
from tests.reference import adapters, losses, targets
from tests.reference.cases import SETTINGS, cases
from tests.reference.layout import half_diagonal
from tests.test_models.crowds import CROWD
from tests.test_models.operators import Operators
from tests.test_models.pretended_gpu import GPU, counted, pretended_gpu

CHANNELS = 16
LOSSES = ['loss_centernet_loc', 'loss_centernet_agn_pos', 'loss_centernet_agn_neg']
TRAIN_CFG = ConfigDict(
    score_thr=1e-4,
    nms_pre=4000,
    nms=dict(type='nms', iou_threshold=0.9, class_agnostic=True),
    max_per_img=2000,
)


def build(**options):
    """A head with few channels, initialised."""
    cfg = dict(
        type='CenterNet2ProposalHead',
        in_channels=CHANNELS,
        norm_cfg=dict(type='GN', num_groups=4, requires_grad=True),
        test_cfg=TRAIN_CFG,
    )
    head = MODELS.build({**cfg, **options})
    head.init_weights()
    return head


def features(height: int, width: int, batch: int = 2):
    """Five levels of features of images of this size."""
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(batch, CHANNELS, -(-height // s), -(-width // s), generator=generator)
        for s in (8, 16, 32, 64, 128)
    )


def instances(*images):
    """Ground truth of class 0, as a proposal network gets it."""
    return adapters.to_instances(images, [[0] * len(b) for b in images])


class TestConstruction:
    def test_tensors_of_the_original(self):
        """Shapes of the original's; there is no class tower."""
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in MODELS.build(dict(type='CenterNet2ProposalHead', in_channels=64))
            .state_dict()
            .items()
        }
        wanted = {
            'conv_reg.weight': (4, 64, 3, 3),
            'conv_reg.bias': (4,),
            'conv_agn.weight': (1, 64, 3, 3),
            'conv_agn.bias': (1,),
        }
        for i in range(4):
            wanted.update(
                {
                    f'reg_convs.{i}.conv.weight': (64, 64, 3, 3),
                    f'reg_convs.{i}.conv.bias': (64,),
                    f'reg_convs.{i}.gn.weight': (64,),
                    f'reg_convs.{i}.gn.bias': (64,),
                }
            )
        wanted.update({f'scales.{i}.scale': () for i in range(5)})
        assert shapes == wanted

    def test_initial_values(self):
        """N(0, 0.01), biases 0, but 8 for boxes and a prior."""
        head = build(in_channels=64, norm_cfg=dict(type='GN', num_groups=32))
        for i in range(4):
            tower = head.reg_convs[i]
            assert tower.conv.weight.std().item() == pytest.approx(0.01, rel=0.05)
            assert abs(tower.conv.weight.mean().item()) < 3e-4
            assert not tower.conv.bias.any()
            assert (tower.gn.weight == 1).all() and not tower.gn.bias.any()
        for conv in (head.conv_reg, head.conv_agn):
            assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert (head.conv_reg.bias == 8).all()
        assert head.conv_agn.bias.item() == pytest.approx(-4.59512, abs=1e-5)
        assert [s.scale.item() for s in head.scales] == [1.0] * 5

    def test_each_stride_needs_a_range(self):
        with pytest.raises(ValueError, match='2 strides but 5 regress_ranges'):
            build(strides=(8, 16))


class TestForward:
    def test_shapes_and_ranges(self):
        heats, ltrbs = build()(features(100, 150))
        sizes = [(13, 19), (7, 10), (4, 5), (2, 3), (1, 2)]
        assert [tuple(x.shape) for x in heats] == [(2, 1, *s) for s in sizes]
        assert [tuple(x.shape) for x in ltrbs] == [(2, 4, *s) for s in sizes]
        assert all((x >= 0).all() for x in ltrbs)

    def test_first_predictions_are_the_biases(self):
        """Untrained: objectness near 0.01, boxes 8 strides each way."""
        heats, ltrbs = build()(features(64, 64))
        for heat, ltrb in zip(heats, ltrbs):
            assert heat.sigmoid().mean().item() == pytest.approx(0.01, rel=0.5)
            assert ltrb.mean().item() == pytest.approx(8, rel=0.1)

    def test_levels_share_all_but_a_scale_before_the_rectifier(self):
        head = build()
        torch.nn.init.normal_(head.conv_reg.bias)
        x = features(64, 64)[0]
        with torch.no_grad():
            head.scales[1].scale.fill_(3.0)
            head.scales[2].scale.fill_(-1.0)
        heats, ltrbs = head((x, x, x, x, x))
        assert torch.equal(heats[0], heats[1])
        assert torch.allclose(ltrbs[1], 3 * ltrbs[0])
        assert ltrbs[2].any() and not (ltrbs[2] * ltrbs[0]).any()

    def test_objectness_comes_from_the_box_tower(self):
        head = build()
        heats, _ = head(features(64, 64))
        sum(x.sum() for x in heats).backward()
        assert all(p.grad.any() for p in head.reg_convs[0].parameters())

    def test_number_of_levels(self):
        heats, ltrbs = build()(features(64, 64)[:4])
        with pytest.raises(ValueError, match='4 feature maps but 5 strides'):
            build().loss_by_feat(heats, ltrbs, instances((), ()), [{}] * 2)


def reference_losses(case, logits, ltrbs):
    """The three losses of the reference and its leaves, to differentiate."""
    flat_logits, flat_ltrbs, heats, wanted = [], [], [], []
    for i, level in enumerate(case.levels):
        for image, boxes in enumerate(case.boxes):
            for y in range(level.height):
                for x in range(level.width):
                    flat_logits.append(logits[i][image, 0, y, x])
                    flat_ltrbs.append(ltrbs[i][image, :, y, x])
                    heats.append(targets.heat(boxes, level, x, y))
                    owner = targets.regression_owner(boxes, level, x, y)
                    wanted.append(
                        None if owner is None else targets.ltrb_at(boxes[owner], level, x, y)
                    )
    positives = targets.base_positives(case.boxes, case.labels, case.levels)
    return losses.first_stage_losses(
        flat_logits, flat_ltrbs, heats, wanted, [p.index for p in positives]
    )


def small(case) -> bool:
    """Few cells, centres on the map: the rest is for the target tests."""
    indices = [p.index for p in targets.base_positives(case.boxes, case.labels, case.levels)]
    cells = len(case.boxes) * sum(level.cells for level in case.levels)
    return cells <= 120 and all(0 <= i < cells for i in indices)


@settings(SETTINGS, max_examples=25)
@given(cases(max_objects=4).filter(small))
def test_losses_and_gradients_are_the_reference_s(case):
    head = build(strides=adapters.strides(case.levels), regress_ranges=adapters.ranges(case.levels))
    generator = torch.Generator().manual_seed(1)
    shape = [(len(case.boxes), level.height, level.width) for level in case.levels]
    logits = [2 * torch.randn(b, 1, h, w, generator=generator) for b, h, w in shape]
    ltrbs = [4 * torch.rand(b, 4, h, w, generator=generator) for b, h, w in shape]
    exact = [x.double().requires_grad_() for x in (*logits, *ltrbs)]
    inputs = [x.requires_grad_() for x in (*logits, *ltrbs)]
    found = head.loss_by_feat(
        inputs[: len(shape)], inputs[len(shape) :], instances(*case.boxes), [{}] * len(case.boxes)
    )
    wanted = reference_losses(case, exact[: len(shape)], exact[len(shape) :])
    assert list(found) == LOSSES
    assert [v.item() for v in found.values()] == pytest.approx(
        [v.item() for v in wanted], rel=1e-4, abs=1e-7
    )
    sum(f * v for f, v in zip((1, 2, 3), found.values())).backward()
    sum(f * v for f, v in zip((1, 2, 3), wanted)).backward()
    for a, b in zip(inputs, exact):
        # No cell regresses: the reference does not touch the distances.
        grad = torch.zeros_like(b) if b.grad is None else b.grad
        assert torch.allclose(a.grad.double(), grad, rtol=2e-3, atol=1e-6)


class TestTraining:
    """Losses and gradients of whole batches."""

    def run(self, *images, size=(100, 150)):
        head = build()
        found = head.loss_by_feat(
            *head(features(*size, batch=len(images))), instances(*images), [{}] * len(images)
        )
        assert list(found) == LOSSES
        assert all(v.isfinite() and v.dim() == 0 for v in found.values())
        sum(found.values()).backward()
        return head, {name: v.item() for name, v in found.items()}

    def test_crowded_image_beside_an_empty_one(self):
        """25 objects: nested, tiny, cut by the border, equal."""
        head, found = self.run(CROWD, ())
        assert all(v > 0 for v in found.values())
        for name, parameter in head.named_parameters():
            assert parameter.grad.isfinite().all(), name
            # The three coarsest levels have no object.
            assert parameter.grad.any() or name in (
                'scales.2.scale',
                'scales.3.scale',
                'scales.4.scale',
            ), name

    @pytest.mark.parametrize('batch', [1, 2])
    def test_no_object_in_the_batch(self, batch):
        """Only negatives; every parameter still has a gradient."""
        head, found = self.run(*[()] * batch)
        assert found['loss_centernet_loc'] == 0
        assert found['loss_centernet_agn_pos'] == 0
        assert found['loss_centernet_agn_neg'] > 0
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name

    def test_objects_count_once_for_each_of_their_levels(self):
        """Half diagonal 70 is positive on the first two levels."""
        box = (0.0, 8.0, 112.0, 92.0)
        assert half_diagonal(box) == 70
        heats, ltrbs = build()(features(100, 150, 1))
        heats = [torch.zeros_like(x, requires_grad=True) for x in heats]
        found = build().loss_by_feat(heats, ltrbs, instances((box,)), [{}])
        found['loss_centernet_agn_pos'].backward()
        assert [x.grad[0, 0].nonzero().tolist() for x in heats] == [[[6, 7]], [[3, 3]], [], [], []]
        # -log(1/2) (1/2)^2 for each of two, over two, alpha 1/4, weight 1/2
        assert found['loss_centernet_agn_pos'].item() == pytest.approx(math.log(2) / 4 / 8)

    def test_labels_are_not_looked_at(self):
        head = build()
        maps = head(features(100, 150))
        gt = instances(CROWD, ())
        numbered = [InstanceData(bboxes=g.bboxes, labels=g.labels + 7) for g in gt]
        first = head.loss_by_feat(*maps, gt, [{}] * 2)
        second = head.loss_by_feat(*maps, numbered, [{}] * 2)
        assert first == second


def build_one_stage(**options):
    """A class-wise head with few channels and extra positives."""
    return build(
        type='CenterNet2Head',
        num_classes=80,
        loss_cls=dict(type='HeatmapFocalLoss'),
        loss_bbox=dict(type='LTRBIoULoss', loss_weight=2.0),
        **options,
    )


class TestOnAcceleratorsToo:
    """What costs time or memory there can be counted on a CPU."""

    @pytest.mark.parametrize('make', [build, build_one_stage])
    def test_a_gpu_is_waited_for_once(self, make):
        """For the number of cells near objects; forward and backward."""
        head = make()
        gt = instances(CROWD, ())
        with pretended_gpu():
            maps = head.to(GPU)([x.to(GPU) for x in features(100, 150)])
            gt = [each.to(GPU) for each in gt]
            with counted() as counts:
                sum(head.loss_by_feat(*maps, gt, [{}] * 2).values()).backward()
        assert counts.waits == ['_local_scalar_dense']

    def test_counting_sees_what_it_should(self):
        x = torch.ones(3)
        repeats = torch.tensor([1, 2, 0])
        with Operators() as operators:
            x.nonzero(), x[x > 0], int(x[0]), torch.tensor([1.0])
            x.repeat_interleave(repeats)
            x.repeat_interleave(repeats, output_size=3)
            x[torch.tensor(0) :], x[repeats]
        assert operators.waits == [
            'nonzero',
            'index',
            '_local_scalar_dense',
            'lift_fresh',
            'repeat_interleave',
            'lift_fresh',
            '_local_scalar_dense',
        ]

    @pytest.mark.parametrize('num', [10, 100])
    def test_nothing_grows_with_locations_times_objects(self, num, monkeypatch):
        """Nor with locations times classes, but for the maps' gradient."""
        head = build_one_stage()
        heats, ltrbs = (
            [x.detach().requires_grad_() for x in maps] for maps in head(features(400, 600, 1))
        )
        boxes = [(6.0 * i % 580, 3.0 * i, 6.0 * i % 580 + 20, 3.0 * i + 20) for i in range(num)]
        gt = instances(boxes)
        rows = sum(x.shape[-2] * x.shape[-1] for x in heats)
        monkeypatch.setattr(heatmap_focal_loss, 'CPU_BLOCK', 2 * rows)
        with Operators() as operators:
            sum(head.loss_by_feat(heats, ltrbs, gt, [{}]).values()).backward()
        sizes = sorted(operators.new_sizes)
        for x in heats:
            sizes.remove(x.numel())  # its gradient
        # 45 candidates, each 4 distances, for each object; 4 for a location
        assert max(sizes) <= max(45 * 4 * num, 4 * rows)

    def test_compiled(self):
        """Three graphs: the network, its boxes in rows, the losses."""
        torch._dynamo.reset()
        head = build_one_stage(
            stacked_convs=1, strides=(8, 16), regress_ranges=((0, 80), (64, 1e7))
        )
        x, gt = features(100, 150)[:2], instances(CROWD, ())

        def losses_of(x):
            return head.loss_by_feat(*head(x), gt, [{}] * 2)

        graphs = CompileCounterWithBackend('eager')
        found = torch.compile(losses_of, backend=graphs)(x)
        assert graphs.frame_count <= 3
        sum(found.values()).backward()
        grads = [p.grad.clone() for p in head.parameters()]
        head.zero_grad()
        wanted = losses_of(x)
        sum(wanted.values()).backward()
        for name, value in found.items():
            assert value.item() == pytest.approx(wanted[name].item())
        for parameter, grad in zip(head.parameters(), grads):
            assert torch.allclose(parameter.grad, grad, atol=1e-7)

    def test_autocast(self):
        """Losses in FP32 of heat maps in BF16; every parameter learns."""
        head = build()
        with torch.autocast('cpu', torch.bfloat16):
            maps = head(features(100, 150))
            assert maps[0][0].dtype == torch.bfloat16
            assert maps[1][0].dtype == torch.float32
            found = head.loss_by_feat(*maps, instances(CROWD, ()), [{}] * 2)
        full = head.loss_by_feat(
            *[[x.detach().float() for x in level] for level in maps], instances(CROWD, ()), [{}] * 2
        )
        for name, value in found.items():
            assert value.dtype == torch.float32
            assert value.item() == pytest.approx(full[name].item(), rel=1e-6)
        sum(found.values()).backward()
        assert all(p.grad.isfinite().all() for p in head.parameters())


class TestPredict:
    @pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
    def test_ties_of_bf16_do_not_add_proposals(self, dtype):
        """16,000 scores have few different values in BF16, and FP32 ones tie if we want."""
        head = build().eval()
        logits = torch.randn(1, 1, 100, 160).to(torch.bfloat16)
        ltrbs = [torch.rand(1, 4, 100, 160)] * 2
        cfg = ConfigDict(TRAIN_CFG, nms_pre=4000, max_per_img=256)
        (found,) = head.predict_by_feat([logits.to(dtype)] * 2, ltrbs, cfg=cfg)
        last = (found.scores == found.scores[255]).sum()
        assert last > 1
        assert (len(found) == 256) == (dtype == torch.bfloat16)
        (exact,) = head.predict_by_feat([logits.float()] * 2, ltrbs, cfg=cfg)
        assert torch.equal(found.bboxes, exact.bboxes[: len(found)])

    def test_large_boxes_in_bf16(self):
        """Distances of 300 to 500 px on stride 4: 1 to 2 px apart in BF16 maps."""
        head = build(strides=(4,), regress_ranges=((0, 1e7),)).eval()
        torch.nn.init.normal_(head.conv_reg.weight, std=0.2)
        torch.nn.init.constant_(head.conv_reg.bias, 100.0)
        x = torch.randn(1, CHANNELS, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            (ltrb,) = head((x,))[1]
        assert (ltrb != ltrb.to(torch.bfloat16)).float().mean() > 0.9

    def test_images_of_a_batch_do_not_mix(self):
        head = build().eval()
        torch.nn.init.normal_(head.conv_agn.weight, std=0.3)
        x = features(100, 150)
        both = head.predict_by_feat(*head(x), [{}] * 2)
        for i, found in enumerate(both):
            (alone,) = head.predict_by_feat(*head(tuple(level[i : i + 1] for level in x)), [{}])
            assert len(found) == len(alone) > 0
            assert torch.allclose(found.scores, alone.scores, atol=1e-6)
            assert torch.allclose(found.bboxes, alone.bboxes, atol=1e-3)

    def test_proposals_have_roots_and_leave_the_image(self):
        head = build().eval()
        (found,) = head.predict_by_feat(*head(features(100, 150, 1)), [{}])
        # Untrained: sqrt(0.01), and 64 pixels each way on the finest level.
        assert found.scores.mean().item() == pytest.approx(0.1, rel=0.3)
        assert (found.bboxes[:, 0] < 0).any()
        assert (found.bboxes[:, 2] > 150).any()
        assert (found.scores.diff() <= 0).all()
        assert not found.scores.requires_grad

    def test_given_limits_win_over_those_of_testing(self):
        head = build().eval()
        maps = head(features(100, 150, 1))
        cfg = ConfigDict(TRAIN_CFG, nms_pre=5, nms=None)
        (found,) = head.predict_by_feat(*maps, [{}], cfg=cfg)
        # At most five of each level, and the coarsest has only two cells.
        assert len(found) == 4 * 5 + 2

    def test_rescaling_is_refused(self):
        head = build().eval()
        with pytest.raises(ValueError, match='rescale=False'):
            head.predict_by_feat(*head(features(64, 64, 1)), [{}], rescale=True)

    def test_training_also_proposes(self):
        head = build()
        x = features(100, 150)
        samples = []
        for gt in instances(CROWD, ()):
            sample = DetDataSample(metainfo=dict(img_shape=(100, 150)))
            sample.gt_instances = gt
            samples.append(sample)
        found, proposals = head.loss_and_predict(x, samples, proposal_cfg=TRAIN_CFG)
        assert list(found) == LOSSES
        assert len(proposals) == 2
        for p in proposals:
            assert len(p) > 0 and not p.bboxes.requires_grad


def test_prior_is_that_of_the_bias():
    assert build(prior_prob=0.2).conv_agn.bias.item() == pytest.approx(math.log(0.25))
