"""``centernet2 why``: a page that shows where the scores of an image's detections come from."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from markupsafe import Markup
from mmcv.transforms import Compose
from mmdet.structures.bbox import bbox_overlaps, scale_boxes
from mmengine.config import Config, ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_centernet2.checkpoint.zoo import find_config
from mmdet_centernet2.cli.image_demo import build_inferencer, checked_model
from mmdet_centernet2.cli.report import data_uri, photo_uri, render
from mmdet_centernet2.datasets.palette import distinct_palette
from mmdet_centernet2.models.task_modules import center_decoder
from mmdet_centernet2.runtime.demo import result_names
from mmdet_centernet2.utils.errors import PreflightError

_PICTURE = 1400  # pixels of the longer edge, at most
_REJECTED, _SUPPRESSED = 600, 400  # so many are kept in a page


def add_model_arguments(parser: ArgumentParser) -> None:
    """Images, a model and where it runs; see :func:`split_words`."""
    parser.add_argument(
        'words',
        nargs='+',
        metavar='IMAGE... MODEL [CHECKPOINT]',
        help='images, then a config file and its checkpoint, or the name of released weights, '
        'such as CenterNet2_R50_1x',
    )
    parser.add_argument('--device', help='such as cuda:0 or cpu; the GPU if there is one')


def split_words(words: list[str]) -> tuple[list[str], str, str]:
    """Images, config and checkpoint of a command line."""
    *images, model = words
    checkpoint = None
    if model.endswith(('.pth', '.pt', '.safetensors')) and images:
        checkpoint, (*images, model) = model, images
    if not images:
        raise PreflightError('give one image or more, then the model: IMAGE... MODEL [CHECKPOINT].')
    return images, *find_config(model, checkpoint)


def add_arguments(parser: ArgumentParser) -> None:
    """The command line of ``centernet2 why``."""
    add_model_arguments(parser)
    parser.add_argument('--out', default='why.html', help='page, or folder of pages (%(default)s)')


def why(args: Namespace) -> None:
    """Write a page for each image, and say so."""
    images, *names = split_words(args.words)
    model, cfg = load_model(*names, args.device)
    out = Path(args.out)
    one = len(images) == 1 and out.suffix == '.html'
    folder = out.with_suffix('') if out.suffix == '.html' else out
    for path, name in result_names([Path(image) for image in images]).items():
        page = out if one else folder / f'{name}.html'
        page.parent.mkdir(parents=True, exist_ok=True)
        write_page(page, path, model, cfg)
        print(f'{page} ({page.stat().st_size / 2**20:.1f} MB)', flush=True)


def load_model(config: str, checkpoint: str, device: str | None) -> tuple[nn.Module, Config]:
    """A detector and its config.

    Raises:
        UserError: If config, checkpoint and device cannot be used together.
    """
    with redirect_stdout(StringIO()):
        inferencer = build_inferencer(*checked_model(config, checkpoint, device), device)
    return inferencer.model, inferencer.cfg


def write_page(page: Path, path: str | Path, model: nn.Module, cfg: Config) -> None:
    """Write the page of the image at ``path``.

    ``model`` is a CenterNet2 or CenterNet detector with ``dataset_meta``.
    """
    picture = cv2.imread(str(path))
    if picture is None:
        raise PreflightError(f'{path} cannot be read as an image.')
    height, width = picture.shape[:2]
    data = gather(model, cfg, path)
    data |= dict(width=width, height=height, jpeg=photo_uri(picture, _PICTURE))
    text = json.dumps(data, separators=(',', ':')).replace('<', '\\u003c')
    names = dict(title=Path(path).name, model=Path(cfg.filename).name)
    render(page, 'why.html', **names, data=Markup(text))


@torch.no_grad()
def gather(model: nn.Module, cfg: Config, path: str | Path) -> dict[str, Any]:
    """All that led to an image's detections, with boxes in pixels of the image.

    Returns:
        ``classes``, ``colours``; ``levels`` with the heat map of each;
        ``proposals``, first those that NMS kept; ``detections``; and what was
        classified and not reported, ``suppressed``. Where a box was suppressed, ``by``
        is the index of the one that overlaps it, by ``iou``; else -1.
    """
    two_stage = hasattr(model, 'roi_head')
    head = model.rpn_head if two_stage else model.bbox_head
    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if step['type'] != 'LoadAnnotations'])
    data = pseudo_collate([pipeline(dict(img_path=str(path), img_id=0))])
    data = model.data_preprocessor(data, False)
    meta = data['data_samples'][0].metainfo
    features = model.extract_feat(data['inputs'])
    heat_logits, ltrbs = head(features)
    proposals, kept = _proposals(head, heat_logits, ltrbs)
    to_image = [1 / factor for factor in meta['scale_factor']]
    proposals.box = scale_boxes(proposals.box, to_image)
    proposals.cell = scale_boxes(proposals.cell, to_image)
    if two_stage:
        roi_head = model.roi_head
        test_cfg = ConfigDict(roi_head.test_cfg, explain=True)
        (found,) = roi_head.predict_bbox(features, [meta], [kept], test_cfg, rescale=True)
        (everything,) = roi_head.predict_bbox(features, [meta], [kept], None)
        everything.bboxes = scale_boxes(everything.bboxes, to_image)
        suppressed = _as_dicts(_suppressed(everything, found, roi_head.test_cfg.nms.iou_threshold))
        more = dict(
            proposal=found.proposal_indices,
            proposal_score=found.proposal_scores,
            probs=found.class_probs,
            stages=found.stage_probs,
        )
    else:
        (found,) = head.predict_by_feat(heat_logits, ltrbs, [meta], rescale=True)
        suppressed, more = [], {}  # the score is the heat map's
    detections = InstanceData(box=found.bboxes, label=found.labels, score=found.scores, **more)
    names = list(model.dataset_meta['classes'])
    return dict(
        classes=names,
        colours=['#{:02x}{:02x}{:02x}'.format(*c) for c in distinct_palette(len(names))],
        levels=[_level(*level, meta) for level in zip(heat_logits, head.strides)],
        proposals=_as_dicts(proposals),
        detections=_as_dicts(detections),
        suppressed=suppressed,
    )


def _proposals(
    head: nn.Module, heat_logits: list[Tensor], ltrbs: list[Tensor]
) -> tuple[InstanceData, InstanceData]:
    """Candidates, first those that NMS keeps, then the best others; and what NMS gives."""
    cfg = head.test_cfg
    settings = head.strides, cfg.score_thr, cfg.nms_pre, head.sqrt_score
    candidates = center_decoder.decode(heat_logits, ltrbs, *settings)
    # half a stride to each side of its centre, a box is the cell
    halves = [torch.full_like(each, 0.5) for each in ltrbs]
    cells = center_decoder.decode(heat_logits, halves, *settings).boxes
    columns = zip(('box', 'score', 'label', 'level', 'cell'), (*candidates, cells))
    rows = InstanceData(**{name: values[0] for name, values in columns})
    # `levels` are handed on: as numbers they tell which candidates are kept
    numbers = torch.arange(len(rows), device=rows.score.device)
    numbered = candidates._replace(levels=numbers[None])
    (kept,) = center_decoder.select(numbered, cfg.get('nms'), cfg.max_per_img)
    order = rows.score.argsort(descending=True, stable=True)
    rejected = order[(rows.score[order] > 0) & ~torch.isin(order, kept.levels)][:_REJECTED]
    rows = rows[torch.cat([kept.levels, rejected])]
    kept.levels = rows.level[: len(kept)]
    rows.kept = numbers[: len(rows)] < len(kept)
    threshold = cfg.nms.iou_threshold if cfg.get('nms') else 1.0
    rows.iou, by = _suppressed_by(rows.box, rows.label, kept, threshold)
    rows.by = torch.where(rows.kept, -1, by)
    return rows, kept


def _suppressed(everything: InstanceData, found: InstanceData, threshold: float) -> InstanceData:
    """The best class of each proposal that gave no detection, best first."""
    scores, labels = everything.scores[:, :-1].max(1)
    scores[found.proposal_indices] = -1  # reported
    iou, by = _suppressed_by(everything.bboxes, labels, found, threshold)
    lost = InstanceData(box=everything.bboxes, label=labels, score=scores, iou=iou, by=by)
    lost = lost[scores.argsort(descending=True)[:_SUPPRESSED]]
    return lost[lost.score >= 0]


def _suppressed_by(
    boxes: Tensor, labels: Tensor, kept: InstanceData, threshold: float
) -> tuple[Tensor, Tensor]:
    """IoU of each box with the kept one of its class that overlaps it most, and which; or -1."""
    overlaps = bbox_overlaps(boxes, kept.bboxes) * (labels[:, None] == kept.labels)
    overlaps = torch.cat([overlaps, overlaps.new_zeros(len(boxes), 1)], 1)  # there may be none
    iou, by = overlaps.max(1)
    return iou, torch.where(iou > threshold, by, -1)


def _as_dicts(boxes: InstanceData) -> list[dict]:
    """The fields of each, rounded."""
    columns = {}
    for name, values in boxes.items():
        if values.is_floating_point():
            values = values.double().round(decimals=1 if name in ('box', 'cell') else 4)
        columns[name] = values.tolist()
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def _level(logits: Tensor, stride: int, meta: dict) -> dict[str, Any]:
    """A heat map, the best class of each cell, as a picture and as bytes."""
    heat = logits[0].float().sigmoid().amax(0)
    # the original shows the square root of it, which is what enters the score
    values = (heat.sqrt() * 255).round().byte().cpu().numpy()
    height, width = values.shape
    colours = cv2.applyColorMap(values, cv2.COLORMAP_TURBO)
    picture = np.dstack([colours, values])  # what is low is transparent
    cell = [stride / factor for factor in meta['scale_factor']]
    return dict(
        stride=int(stride),
        size=[width, height],
        cell=cell,
        best=float(values.max()) / 255,
        values=values.flatten().tolist(),
        png=data_uri(picture),
    )
