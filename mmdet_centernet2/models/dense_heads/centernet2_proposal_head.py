"""The class-agnostic CenterNet head, first stage of CenterNet2."""

import math
from collections.abc import Sequence

import torch
from mmcv.cnn import Scale
from mmcv.ops import ModulatedDeformConv2dPack
from mmdet.models.dense_heads import AnchorFreeHead
from mmdet.models.utils import multi_apply
from mmdet.registry import MODELS
from mmdet.utils import (
    ConfigType,
    InstanceList,
    OptConfigType,
    OptInstanceList,
    OptMultiConfig,
    reduce_mean,
)
from mmengine.config import ConfigDict
from mmengine.model import kaiming_init, normal_init
from torch import Tensor, nn

from ..layers import ExactDeformConv, disable_autocast, disable_compile
from ..task_modules import (
    BatchBoxes,
    CenterTargets,
    LevelLayout,
    center_targets,
    decode,
    flatten_levels,
    mine_positives,
    select,
)

#: Half-diagonal ranges in pixels of the five-level pyramid.
FPN_RANGES = ((0, 80), (64, 160), (128, 320), (256, 640), (512, 1e7))


@MODELS.register_module()
class CenterNet2ProposalHead(AnchorFreeHead):
    """Class-agnostic CenterNet head: an objectness heat map and boxes.

    One tower of convolutions, shared by all levels, feeds both predictors:
    the heat map comes from the *box* tower. Distances are predicted in
    stride units, scaled for each level and rectified.

    Args:
        in_channels: Channels of every input level.
        feat_channels: Channels of the tower. Defaults to ``in_channels``, as
            in the original.
        num_classes: Number of heat maps; two-stage detectors of mmdet set it to 1.
        stacked_convs: Convolutions of the tower.
        strides: Stride of each level in pixels.
        regress_ranges: For each level the lowest and highest half diagonal of
            its objects in pixels, both inclusive.
        hm_min_overlap: IoU that fixes the Gaussian radius.
        hm_min_radius: Smallest Gaussian radius in pixels, on every level.
        more_pos: ``thresh`` and ``topk`` of :func:`mine_positives`, which then
            replaces the one positive for each object and level.
        prior_prob: Initial probability of the heat map.
        bbox_bias: Initial distance to the box sides in stride units.
        conv_bias: Whether the tower's convolutions keep their bias beside the
            group norm.
        norm_cfg: Norm of the tower. Defaults to 32-group GN.
        loss_cls: A :class:`HeatmapFocalLoss`.
        loss_bbox: A :class:`LTRBIoULoss`.
        **kwargs: See mmdet's ``AnchorFreeHead``.

    Raises:
        ValueError: If there is not one range for each stride.

    Source: CenterNet2 paper (arXiv 2103.07461), first stage. What may surprise:
    docs/differences.md, 1 to 4 and 17 to 26.
    """

    heat_predictor = 'conv_agn'  # in the state dict
    heat_loss_name = 'agn_'  # in the names of the losses
    has_cls_tower = False
    sqrt_score = True  # proposals carry the square root of the objectness

    def __init__(
        self,
        in_channels: int,
        feat_channels: int | None = None,
        num_classes: int = 1,
        stacked_convs: int = 4,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        regress_ranges: Sequence[tuple[float, float]] = FPN_RANGES,
        hm_min_overlap: float = 0.8,
        hm_min_radius: float = 4.0,
        more_pos: dict | None = None,
        prior_prob: float = 0.01,
        bbox_bias: float = 8.0,
        conv_bias: bool = True,
        norm_cfg: OptConfigType = dict(type='GN', num_groups=32, requires_grad=True),
        loss_cls: ConfigType = dict(
            type='HeatmapFocalLoss', ignore_high_fp=0.85, pos_weight=0.5, neg_weight=0.5
        ),
        loss_bbox: ConfigType = dict(type='LTRBIoULoss'),
        init_cfg: OptMultiConfig = None,
        **kwargs,
    ) -> None:
        if len(strides) != len(regress_ranges):
            raise ValueError(
                f'{len(strides)} strides but {len(regress_ranges)} regress_ranges: '
                'give one (low, high) range for each stride'
            )
        super().__init__(
            num_classes=num_classes,
            in_channels=in_channels,
            feat_channels=feat_channels or in_channels,
            stacked_convs=stacked_convs,
            strides=strides,
            conv_bias=conv_bias,
            norm_cfg=norm_cfg,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            init_cfg=init_cfg or self._default_init(prior_prob, bbox_bias),
            **kwargs,
        )
        self.hm_min_overlap = hm_min_overlap
        self.hm_min_radius = hm_min_radius
        self.more_pos = more_pos
        self.register_buffer(
            'regress_ranges', torch.tensor(regress_ranges, dtype=torch.float32), persistent=False
        )

    def _default_init(self, prior_prob: float, bbox_bias: float) -> dict:
        normal = dict(type='Normal', std=0.01)
        heat_bias = -math.log((1 - prior_prob) / prior_prob)
        return dict(
            normal,
            layer='Conv2d',
            override=[
                dict(normal, name=self.heat_predictor, bias=heat_bias),
                dict(normal, name='conv_reg', bias=bbox_bias),
            ],
        )

    def init_weights(self) -> None:
        """Initialise, offsets of deformable convolutions too: docs/differences.md, 3."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, ModulatedDeformConv2dPack):
                normal_init(module.conv_offset, std=0.01)
                kaiming_init(module, distribution='uniform', mode='fan_in')

    def _init_cls_convs(self) -> None:
        """Without a class tower, the heat map comes from the box tower."""
        self.cls_convs = nn.ModuleList()
        if self.has_cls_tower:
            super()._init_cls_convs()

    def _init_reg_convs(self) -> None:
        """The box tower; its deformable convolution is ours."""
        super()._init_reg_convs()
        if self.dcn_on_last_conv:
            conv = self.reg_convs[-1].conv
            self.reg_convs[-1].conv = ExactDeformConv(
                conv.in_channels, conv.out_channels, 3, padding=1, bias=conv.bias is not None
            )

    def _init_predictor(self) -> None:
        """Initialize the two predictors and a scale for each level."""
        self.add_module(
            self.heat_predictor, nn.Conv2d(self.feat_channels, self.num_classes, 3, padding=1)
        )
        self.conv_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)

    def forward(self, x: tuple[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict from features (B, C_in, H, W) of each level.

        Returns:
            Raw heat-map scores of each level, (B, C, H, W), and distances to
            the left, top, right and bottom side in stride units, (B, 4, H, W),
            never negative, in FP32 even under autocast: half precision would
            move the sides of large objects by several pixels.
        """
        return multi_apply(self.forward_single, x, self.scales)

    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
        """Predict on one level; see :meth:`forward`."""
        reg_feat = x
        for conv in self.reg_convs:
            reg_feat = conv(reg_feat)
        heat_feat = x if self.has_cls_tower else reg_feat
        for conv in self.cls_convs:
            heat_feat = conv(heat_feat)
        heat_logits = getattr(self, self.heat_predictor)(heat_feat)
        with disable_autocast(x.device):
            ltrb = scale(self.conv_reg(reg_feat.to(self.conv_reg.weight.dtype))).relu()
        return heat_logits, ltrb

    def loss_by_feat(
        self,
        heat_logits: list[Tensor],
        ltrbs: list[Tensor],
        batch_gt_instances: InstanceList,
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: OptInstanceList = None,
    ) -> dict[str, Tensor]:
        """Positive, negative and box loss of what :meth:`forward` returns.

        Objects have ``bboxes`` (n, 4) in pixels of the network input and
        ``labels`` (n, ). As in the original, crowds are not looked at.
        """
        ltrb_rows = flatten_levels(ltrbs)
        layout, targets = self.get_targets(heat_logits, ltrb_rows, batch_gt_instances)
        has_box = targets.reg_inds >= 0
        counts = torch.stack([(targets.pos_inds >= 0).sum(), has_box.sum()])
        num_pos, num_reg = reduce_mean(counts.float()).clamp(min=1)
        pos_loss, neg_loss = self.loss_cls(
            heat_logits,
            layout.elements(targets.heat_inds, targets.heat_labels, self.num_classes),
            targets.heat_values,
            layout.elements(targets.pos_inds, targets.pos_labels, self.num_classes),
            num_pos,
        )
        loc_loss = self.loss_bbox(
            ltrb_rows.index_select(0, targets.reg_inds.clamp(min=0)),
            targets.reg_targets,
            num_reg,
            has_box,
        )
        name = f'loss_centernet_{self.heat_loss_name}'
        return {'loss_centernet_loc': loc_loss, f'{name}pos': pos_loss, f'{name}neg': neg_loss}

    @disable_compile  # other shapes for each batch
    def get_targets(
        self, heat_logits: list[Tensor], ltrb_rows: Tensor, batch_gt_instances: InstanceList
    ) -> tuple[LevelLayout, CenterTargets]:
        """Targets of a batch; only ``more_pos`` looks at the predictions (M, 4)."""
        layout = LevelLayout.build(
            [logits.shape[-2:] for logits in heat_logits],
            self.strides,
            len(heat_logits[0]),
            heat_logits[0].device,
        )
        gt = BatchBoxes.collate(
            [gt.bboxes for gt in batch_gt_instances], [gt.labels for gt in batch_gt_instances]
        )
        args = gt, layout, self.regress_ranges
        targets = center_targets(*args, self.num_classes, self.hm_min_overlap, self.hm_min_radius)
        if self.more_pos:
            rows, labels = mine_positives(*args, ltrb_rows, **self.more_pos)
            targets = targets._replace(pos_inds=rows, pos_labels=labels)
        return layout, targets

    @torch.no_grad()
    def predict_by_feat(
        self,
        heat_logits: list[Tensor],
        ltrbs: list[Tensor],
        batch_img_metas: list[dict] | None = None,
        cfg: ConfigDict | None = None,
        rescale: bool = False,
    ) -> InstanceList:
        """Decode proposals; they are **not clipped** to the image.

        ``cfg`` has ``score_thr``, ``nms_pre``, ``nms`` and ``max_per_img``; for the
        results see :func:`select`, boxes are in pixels of the network input.

        Raises:
            ValueError: If ``rescale`` is set.
        """
        if rescale:
            raise ValueError('proposals are in pixels of the network input: use rescale=False')
        cfg = cfg or self.test_cfg
        candidates = decode(
            heat_logits, ltrbs, self.strides, cfg.score_thr, cfg.nms_pre, self.sqrt_score
        )
        # the original keeps ties, of which BF16 makes many
        keep_ties = heat_logits[0].dtype != torch.bfloat16
        return select(candidates, cfg.get('nms'), cfg.max_per_img, keep_ties)
