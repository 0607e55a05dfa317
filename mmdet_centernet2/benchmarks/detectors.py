"""Detectors with random weights that have the work of trained ones.

What a detector costs depends on its weights in four ways, and here all four
are made alike for every detector: activations have the size that
normalisation gives them, every first stage gives as many proposals as its
test config allows, proposals are eight cells wide (mmdet's anchors are, and
CenterNet2's levels are trained on such objects), and equally many scores
reach the last suppression.
"""
from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

import mmdet
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import Tensor, nn

import mmdet_centernet2
from mmdet_centernet2.benchmarks.scenes import Size, image_batch
from mmdet_centernet2.models.dense_heads import CenterNet2ProposalHead

OURS = 'CenterNet2'
CASCADE = 'mmdet Cascade R-CNN'
FASTER = 'mmdet Faster R-CNN'
UPDATE = 'mmdet CenterNet-update'

#: Configs by what they are called; peers have the same ResNet-50.
CONFIGS = {
    OURS: 'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
    CASCADE: 'cascade_rcnn/cascade-rcnn_r50-caffe_fpn_1x_coco.py',
    FASTER: 'faster_rcnn/faster-rcnn_r50-caffe_fpn_1x_coco.py',
    UPDATE: 'centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py',
}
#: Pairs of box and class that the last score threshold lets through.
PAIRS_AT_NMS = 300
#: Height and width in pixels of the image that weights are adapted to.
CALIBRATION_SIZE = (192, 192)
#: Distance of a proposal's sides in stride units: eight cells across.
LTRB_BIAS = 4.
#: Standard deviation of the class logits, about a trained model's.
LOGIT_STD = 1.5


class Work(NamedTuple):
    """What a detector had to do, to show that it was not let off.

    Args:
        proposals (int): Of the first stage, all images together; 0 for
            detectors of one stage.
        detections (int): Found in all images together.
    """

    proposals: int
    detections: int


def load_config(name: str) -> Config:
    """Config of a detector, ours or one that the installed mmdet brings.

    Args:
        name (str): A key of ``CONFIGS``.

    Raises:
        FileNotFoundError: If this mmdet came without its configs.
    """
    package = mmdet_centernet2 if name == OURS else mmdet
    root = Path(package.__file__).resolve().parent
    folders = [root / '.mim' / 'configs', root.parent / 'configs']
    for folder in folders:
        if (folder / CONFIGS[name]).is_file():
            return Config.fromfile(folder / CONFIGS[name])
    raise FileNotFoundError(
        f'{CONFIGS[name]} is in neither of {[str(f) for f in folders]}: '
        f'this {package.__name__} came without its configs; install it from '
        'a wheel or with pip install -e .')


def shrink(cfg: Config) -> None:
    """Make a detector small, for trying out: ResNet-18, narrow box heads.

    Args:
        cfg (Config): Of ``CONFIGS``; changed in place.
    """
    cfg.model.backbone.depth = 18
    cfg.model.neck.in_channels = [
        channels // 4 for channels in cfg.model.neck.in_channels
    ]
    heads = cfg.model.roi_head.bbox_head if 'roi_head' in cfg.model else []
    for head in heads if isinstance(heads, list) else [heads]:
        head.fc_out_channels = 64


def build(name: str,
          device: str = 'cpu',
          small: bool = False,
          model_options: Optional[dict] = None) -> nn.Module:
    """Build a detector and give its weights the usual work.

    Args:
        name (str): A key of ``CONFIGS``.
        device (str): Where it is to work.
        small (bool): See :func:`shrink`. Defaults to False.
        model_options (dict, optional): Merged into the model's config.

    Returns:
        nn.Module: In inference mode, the same weights in every run; the
        pretrained backbone is not downloaded.
    """
    cfg = load_config(name)
    if small:
        shrink(cfg)
    cfg.merge_from_dict(dict(model=model_options or {}))
    return build_from(cfg, device)


def build_from(cfg: Config, device: str = 'cpu') -> nn.Module:
    """See :func:`build`; from any config.

    Args:
        cfg (Config): Its backbone's ``init_cfg`` is taken away.
        device (str): Where the detector is to work.
    """
    register_all_modules(init_default_scope=True)
    # it lists every parameter that is initialised
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    cfg.model.backbone.init_cfg = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model = model.to(device).eval()
    if isinstance(getattr(model, 'rpn_head', None), CenterNet2ProposalHead):
        nn.init.constant_(model.rpn_head.conv_reg.bias, LTRB_BIAS)
    calibrate_norms(model)
    _spread_logits(model)
    return model


@torch.no_grad()
def calibrate_norms(model: nn.Module, size: Size = CALIBRATION_SIZE) -> None:
    """Let batch norms know the statistics of what they get.

    They are frozen at mean 0 and variance 1 otherwise, and every residual
    block doubles its input.
    """
    norms = [m for m in model.modules()
             if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    images, _ = image_batch(size, device=_device(model))
    for norm in norms:
        norm.train()
        norm.momentum = 1.
    model.extract_feat(images)
    for norm, momentum in zip(norms, before):
        norm.eval()
        norm.momentum = momentum


@torch.no_grad()
def _spread_logits(model: nn.Module, size: Size = CALIBRATION_SIZE) -> None:
    """Let box heads be as sure as trained ones, not undecided."""
    if not hasattr(model, 'roi_head'):
        return
    images, samples = image_batch(size, device=_device(model))
    heads = model.roi_head.bbox_head
    heads = heads if isinstance(heads, nn.ModuleList) else [heads]
    logits: List[Tensor] = []
    hooks = [
        head.fc_cls.register_forward_hook(
            lambda module, inputs, output: logits.append(output))
        for head in heads
    ]
    model.predict(images, samples, rescale=False)
    for head, hook, seen in zip(heads, hooks, logits):
        hook.remove()
        head.fc_cls.weight *= LOGIT_STD / seen.std()


@torch.no_grad()
def set_score_threshold(model: nn.Module, images: Tensor,
                        samples: List[DetDataSample],
                        pairs: int = PAIRS_AT_NMS) -> None:
    """Let a number of (box, class) pairs reach the last suppression.

    Args:
        model (nn.Module): The test config of its last head is changed.
        images (Tensor): Network input, (B, 3, H, W).
        samples (list[DetDataSample]): Of the images.
        pairs (int): For each image, on average.
    """
    # the head's own: the model's is a copy
    last = model.roi_head if hasattr(model, 'roi_head') else model.bbox_head
    cfg = last.test_cfg
    usual = {key: cfg[key] for key in ('nms', 'max_per_img')}
    cfg.update(score_thr=0., max_per_img=-1,
               nms=dict(type='nms', iou_threshold=1.))
    found = model.predict(images, samples, rescale=False)
    scores = torch.cat([sample.pred_instances.scores for sample in found])
    pairs = min(pairs * len(images), len(scores) - 1)
    cfg.update(score_thr=scores.sort(descending=True).values[pairs].item(),
               **usual)


@torch.no_grad()
def count_work(model: nn.Module, images: Tensor,
               samples: List[DetDataSample]) -> Work:
    """Count what a detector does with a batch.

    Args:
        model (nn.Module): A detector.
        images (Tensor): Network input, (B, 3, H, W).
        samples (list[DetDataSample]): Of the images.
    """
    with _count_proposals(model) as proposals:
        found = model.predict(images, samples, rescale=False)
    return Work(sum(proposals),
                sum(len(sample.pred_instances) for sample in found))


@contextlib.contextmanager
def _count_proposals(model: nn.Module) -> Iterator[List[int]]:
    """Note the first stage's proposals of each image, within the block."""
    counts: List[int] = []
    if not getattr(model, 'with_rpn', False):
        yield counts
        return
    predict = model.rpn_head.predict

    def counting(*args, **kwargs):
        results = predict(*args, **kwargs)
        counts.extend(len(result) for result in results)
        return results

    model.rpn_head.predict = counting
    try:
        yield counts
    finally:
        del model.rpn_head.predict


def ready_to_predict(name: str,
                     size: Size,
                     batch: int = 1,
                     device: str = 'cpu',
                     small: bool = False
                     ) -> Tuple[nn.Module, Tensor, List[DetDataSample]]:
    """A detector and a batch that gives it the usual work.

    Args:
        name (str): A key of ``CONFIGS``.
        size (tuple[int, int]): Height and width of the images in pixels.
        batch (int): Number of images.
        device (str): Where it is to work.
        small (bool): See :func:`shrink`. Defaults to False.

    Returns:
        tuple[nn.Module, Tensor, list[DetDataSample]]: Model, network input
        (B, 3, H, W) and samples.
    """
    model = build(name, device, small)
    images, samples = image_batch(size, batch, device=device)
    set_score_threshold(model, images, samples)
    return model, images, samples


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
