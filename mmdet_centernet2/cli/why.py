"""``centernet2 why``: a page that shows where the scores of an image's detections come from."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from markupsafe import Markup
from mmcv.transforms import Compose
from mmdet.apis import DetInferencer
from mmdet.structures.bbox import bbox_overlaps, scale_boxes
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmdet_centernet2.checkpoint.released import find_config
from mmdet_centernet2.cli.report import data_uri, embedded_photo, render
from mmdet_centernet2.datasets.palette import distinct_palette
from mmdet_centernet2.models.task_modules import center_decoder
from mmdet_centernet2.utils.errors import PreflightError

_PICTURE = 1400  # pixels of the longer edge, at most
_PROPOSALS, _SUPPRESSED = 800, 400  # so many are kept in a page
_JPEG_QUALITY = 88


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
    """Images, config and checkpoint of a command line.

    Raises:
        CheckpointError: If there is no such model.
        PreflightError: If there is no image.
    """
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


def why(args: Namespace, say: Callable[[str], None] = print) -> None:
    """Write a page for each image, and say so.

    Raises:
        UserError: If an image cannot be read, or there is no such model.
    """
    images, config, checkpoint = split_words(args.words)
    with redirect_stdout(StringIO()):
        inferencer = DetInferencer(config, checkpoint, device=args.device, show_progress=False)
    out = Path(args.out)
    for path in map(Path, images):
        page = out if out.suffix == '.html' and len(images) == 1 else out / f'{path.name}.html'
        page.parent.mkdir(parents=True, exist_ok=True)
        write_page(page, inferencer.model, inferencer.cfg, path)
        say(f'{page} ({page.stat().st_size / 2**20:.1f} MB)')


def write_page(page: Path, model: nn.Module, cfg: Any, path: Path) -> None:
    """Write the page of one image.

    Args:
        page: The ``.html`` file.
        model: A CenterNet2 or CenterNet detector with ``dataset_meta``.
        cfg: Its config, which has the pipeline.
        path: The image.

    Raises:
        PreflightError: If the image cannot be read.
    """
    picture = cv2.imread(str(path))
    if picture is None:
        raise PreflightError(f'{path} cannot be read as an image.')
    height, width = picture.shape[:2]
    jpeg = embedded_photo(picture, _PICTURE, _JPEG_QUALITY)
    data = gather(model, cfg, path) | dict(width=width, height=height, jpeg=jpeg)
    text = json.dumps(data, separators=(',', ':')).replace('<', '\\u003c')
    name = Path(cfg.filename).name if cfg.filename else type(model).__name__
    page.write_text(
        render('why.html', title=path.name, model=name, data=Markup(text)), encoding='utf-8'
    )


@torch.no_grad()
def gather(model: nn.Module, cfg: Any, path: Path) -> dict[str, Any]:
    """All that led to an image's detections, with boxes in pixels of the image.

    Returns:
        ``classes``, ``colours``; ``levels`` with the heat map of each;
        ``proposals`` before NMS, best first; ``detections``; and what was
        classified and not reported, ``suppressed``.
    """
    two_stage = hasattr(model, 'roi_head')
    head = model.rpn_head if two_stage else model.bbox_head
    inputs, samples = _input(model, cfg, path)
    meta = samples[0].metainfo
    features = model.extract_feat(inputs)
    heat_logits, ltrbs = head(features)
    proposals, kept = _proposals(head, heat_logits, ltrbs)
    to_image = [1 / factor for factor in meta['scale_factor']]
    if two_stage:
        test_cfg = ConfigDict(model.roi_head.test_cfg, explain=True)
        (found,) = model.roi_head.predict_bbox(features, [meta], [kept], test_cfg, rescale=True)
        suppressed = _suppressed(model.roi_head, features, meta, kept, found)
    else:
        test_cfg = ConfigDict(head.test_cfg, explain=True)
        (found,) = head.predict_by_feat(heat_logits, ltrbs, [meta], test_cfg, rescale=True)
        suppressed = []
    names = list(model.dataset_meta['classes'])
    return dict(
        classes=names,
        colours=['#{:02x}{:02x}{:02x}'.format(*c) for c in distinct_palette(len(names))],
        levels=[_level(*level, meta) for level in zip(heat_logits, head.strides)],
        proposals=_proposal_dicts(proposals, to_image),
        detections=_detection_dicts(found, kept),
        suppressed=suppressed,
    )


def _input(model: nn.Module, cfg: Any, path: Path) -> tuple[Tensor, list]:
    """The network's input (1, 3, H, W) and its data sample."""
    steps = cfg.test_dataloader.dataset.pipeline
    pipeline = Compose([step for step in steps if step['type'] != 'LoadAnnotations'])
    data = pseudo_collate([pipeline(dict(img_path=str(path), img_id=0))])
    data = model.data_preprocessor(data, False)
    return data['inputs'], data['data_samples']


def _proposals(
    head: nn.Module, heat_logits: list[Tensor], ltrbs: list[Tensor]
) -> tuple[InstanceData, InstanceData]:
    """Candidates before NMS, best first, and those that it keeps.

    The first get ``cells`` (x, y, width, height in input pixels), ``kept``,
    and ``by`` and ``iou``: which of them is kept and overlaps it most, -1 where
    none reaches the threshold. The second get ``rows``, their place among the first.
    """
    cfg = head.test_cfg
    candidates = center_decoder.decode(
        heat_logits, ltrbs, head.strides, cfg.score_thr, cfg.nms_pre, head.sqrt_score
    )
    (kept,) = center_decoder.select(candidates, cfg.get('nms'), cfg.max_per_img)
    cells = []
    for logits, stride in zip(heat_logits, head.strides):
        places = center_decoder._best_pairs(logits, min(cfg.nms_pre, logits.numel()))[2][0]
        width = logits.size(-1)
        corner = torch.stack([places % width, places // width], -1) * stride
        cells.append(torch.cat([corner, corner + stride], -1))
    rows = InstanceData(
        **{
            name: values[0]
            for name, values in zip(('bboxes', 'scores', 'labels', 'levels'), candidates)
        },
        cells=torch.cat(cells).float(),
    )
    order = rows.scores.argsort(descending=True, stable=True)[:_PROPOSALS]
    rows = rows[order[rows.scores[order] > 0]]
    same = (rows.bboxes[:, None] == kept.bboxes).all(-1) & (rows.labels[:, None] == kept.labels)
    rows.kept = same.any(1)
    kept.rows = torch.where(same.any(0), same.int().argmax(0) if len(rows) else -1, -1)
    overlaps = bbox_overlaps(rows.bboxes, kept.bboxes) * ~rows.kept[:, None]
    overlaps = torch.cat([overlaps, overlaps.new_zeros(len(rows), 1)], 1)  # there may be none
    rows.iou, best = overlaps.max(1)
    threshold = cfg.nms.iou_threshold if cfg.get('nms') else 1.0
    places = torch.cat([kept.rows, kept.rows.new_full((1,), -1)])
    rows.by = torch.where(rows.iou > threshold, places[best], -1)
    return rows, kept


def _suppressed(
    roi_head: nn.Module, features: tuple, meta: dict, kept: InstanceData, found: InstanceData
) -> list[dict]:
    """The best class of each proposal that gave no detection, best first."""
    (everything,) = roi_head.predict_bbox(features, [meta], [kept], None)
    if not len(everything):
        return []
    scores, labels = everything.scores[:, :-1].max(1)
    boxes = scale_boxes(everything.bboxes, [1 / factor for factor in meta['scale_factor']])
    scores[found.proposal_indices] = -1  # reported
    overlaps = bbox_overlaps(boxes, found.bboxes) * (labels[:, None] == found.labels)
    overlaps = torch.cat([overlaps, overlaps.new_zeros(len(boxes), 1)], 1)
    iou, by = overlaps.max(1)
    by[iou <= roi_head.test_cfg.nms.iou_threshold] = -1
    lost = InstanceData(bboxes=boxes, labels=labels, scores=scores, iou=iou, by=by)
    lost = lost[scores.argsort(descending=True)[:_SUPPRESSED]]
    return _as_dicts(lost[lost.scores >= 0])


def _proposal_dicts(proposals: InstanceData, to_image: list[float]) -> list[dict]:
    cells = scale_boxes(proposals.cells, to_image)
    proposals.bboxes = scale_boxes(proposals.bboxes, to_image)
    more = zip(cells, proposals.levels.tolist(), proposals.kept.tolist())
    return [
        row | dict(cell=_round(cell), level=level, kept=kept)
        for row, (cell, level, kept) in zip(_as_dicts(proposals), more)
    ]


def _detection_dicts(found: InstanceData, kept: InstanceData) -> list[dict]:
    rows = _as_dicts(found)
    if 'class_probs' not in found:  # one stage: the score is the heat map's
        return rows
    for i, row in enumerate(rows):
        row['proposal'] = int(kept.rows[found.proposal_indices[i]])
        row['proposal_score'] = round(float(found.proposal_scores[i]), 4)
        row['probs'] = _round(found.class_probs[i], 4)
        row['stages'] = [_round(probs, 4) for probs in found.stage_probs[i]]
    return rows


def _as_dicts(boxes: InstanceData) -> list[dict]:
    """Box, label and score; and which box overlaps it (``by``, if any), by how much."""
    rows = []
    for i in range(len(boxes)):
        row = dict(
            box=_round(boxes.bboxes[i]),
            label=int(boxes.labels[i]),
            score=round(float(boxes.scores[i]), 4),
        )
        if 'by' in boxes:
            by = int(boxes.by[i])
            row.update(by=by if by >= 0 else None, iou=round(float(boxes.iou[i]), 3))
        rows.append(row)
    return rows


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
        extent=[cell[0] * width, cell[1] * height],
        best=float(values.max()) / 255,
        values=values.flatten().tolist(),
        png=data_uri(picture, '.png'),
    )


def _round(values: Tensor, digits: int = 1) -> list[float]:
    return [round(value, digits) for value in values.tolist()]
