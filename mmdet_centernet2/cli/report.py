"""The page at the end of ``centernet2 train``: how good the detector is, and where it fails."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import mmcv
import numpy as np
from hotcoco import COCO, COCOeval, plot
from markupsafe import Markup
from matplotlib.figure import Figure
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmdet_centernet2.datasets.annotation_file import read_table

_PAGES = Path(__file__).parent / 'pages'
_CARDS = 12  # half of them the worst, half the best
_PICTURE = 900  # pixels of the longer edge, at most
_SHOWN = 0.3  # score of a box that counts as found
_CURVES = 12  # classes with a curve of their own
_JPEG_QUALITY = 88


def render(path: Path, template: str, **values: Any) -> None:
    """Fill a template of ``pages/``; in HTML, text is escaped, ``Markup`` is not."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGES),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters['quoted'] = lambda value: repr(str(value))
    style = Markup((_PAGES / 'style.css').read_text())
    text = environment.get_template(template).render(style=style, **values)
    path.write_text(text, encoding='utf-8')


def data_uri(picture: np.ndarray, kind: str = 'png') -> str:
    """A picture (H, W, 3 or 4) uint8, BGR, as part of a page; ``png`` or ``jpeg``."""
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if kind == 'jpeg' else []
    encoded = base64.b64encode(cv2.imencode(f'.{kind}', picture, options)[1]).decode()
    return f'data:image/{kind};base64,{encoded}'


def photo_uri(picture: np.ndarray, longest: int) -> str:
    """A photo (H, W, 3) as part of a page, shrunk to a longer edge of pixels."""
    scale = min(longest / max(picture.shape[:2]), 1)
    return data_uri(mmcv.imrescale(picture, scale, interpolation='area'), 'jpeg')


def write_report(
    path: Path,
    cfg: Config,
    samples: Sequence[DetDataSample],
    history: Mapping[str, Any],
    explain: Callable[[Path, str], None],
) -> None:
    """Write the page, which needs no other file, with ``labels.png`` if it lies beside it.

    Args:
        path: Of the page.
        cfg: What was trained with.
        samples: Predictions for the held-out images.
        history: mmengine's ``message_hub.log_scalars``.
        explain: Writes a page about an image, both given as paths, into ``why/`` beside this one.
    """
    classes = list(cfg.train_dataloader.dataset.metainfo.classes)
    truth = _content(cfg.val_evaluator, classes)
    training = _content(cfg.train_dataloader.dataset, classes)
    rows = {image['key']: image['id'] for image in truth['images']}
    found = [each for sample in samples for each in _detections(sample, rows[sample.img_id])]
    ground_truth = COCO(truth)
    result = COCOeval(ground_truth, ground_truth.load_res(found), 'bbox')
    result.evaluate()
    result.accumulate()
    result.summary_lines()
    diagnostics = result.image_diagnostics()
    for number, each in enumerate(found, 1):  # as the evaluation counts them
        each['hit'] = diagnostics['dt_status'].get(number) == 'tp'
    files = {rows[sample.img_id]: sample.img_path for sample in samples}
    ap = {row: each['ap'] for row, each in diagnostics['img_summary'].items() if row in files}
    cards = _cards(truth, found, files, ap)
    path.with_name('why').mkdir(exist_ok=True)
    for card in cards:
        explain(path.with_name('why') / card['page'], card['file'])
    labels = path.with_name('labels.png')
    render(
        path,
        'report.html',
        title=path.resolve().parent.name,
        model=Path(cfg.filename).name,
        metrics=result.results()['metrics'],
        truth=truth,
        names=classes,
        classes=_class_rows(result, classes, truth, training),
        cards=cards,
        errors=result.tide_errors(),
        doubtful=diagnostics['label_errors'][:10],
        confusion=_svg(plot.confusion_matrix(result.confusion_matrix(min_score=_SHOWN))[0]),
        pr_curve=_svg(plot.pr_curve(result, iou_thr=0.5, top_n=_CURVES)[0]),
        curves=_training_curves(history, cfg.train_cfg),
        statistics=data_uri(cv2.imread(str(labels))) if labels.is_file() else None,
    )


def _content(part: dict, classes: list[str]) -> dict[str, Any]:
    """The ``ann_file`` of a config; ids become places in its images and in the classes.

    Images keep theirs as ``key``; hotcoco takes no text.
    """
    table = read_table(part['ann_file'], evaluation=True, bad_boxes='drop')
    ids = {each['name']: each['id'] for each in table.categories}
    labels = table.labels([ids.get(name) for name in classes]).tolist()
    rows = zip(table.to_coco()['annotations'], table.image_rows.tolist(), labels)
    return dict(
        images=[dict(image, id=i, key=image['id']) for i, image in enumerate(table.images)],
        categories=[dict(id=label, name=name) for label, name in enumerate(classes)],
        annotations=[
            dict(ann, image_id=row, category_id=label) for ann, row, label in rows if label >= 0
        ],
    )


def _detections(sample: DetDataSample, row: int) -> list[dict]:
    """Those of an image as COCO has them."""
    pred = sample.pred_instances
    boxes = pred.bboxes.clone()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        dict(image_id=row, category_id=label, bbox=box, score=score)
        for box, score, label in zip(boxes.tolist(), pred.scores.tolist(), pred.labels.tolist())
    ]


def _class_rows(
    result: COCOeval, classes: list[str], truth: dict, training: dict
) -> list[dict[str, Any]]:
    """The worst class first; -1 where there is no held-out box, which come last."""
    precision = result.eval['precision'][:, :, :, 0, -1]  # IoU, recall, class
    recall = result.eval['recall'][0, :, 0, -1]
    counts = [Counter(a['category_id'] for a in part['annotations']) for part in (truth, training)]
    rows = [
        dict(
            name=name,
            boxes=counts[0][label],
            training=counts[1][label],
            values=[precision[:, :, label].mean(), precision[0, :, label].mean(), recall[label]],
        )
        for label, name in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: (row['boxes'] == 0, row['values'][0]))


def _cards(
    truth: dict, found: list[dict], files: dict[int, str], ap: dict[int, float]
) -> list[dict[str, Any]]:
    """The images with the lowest and the highest AP, with their boxes."""
    order = sorted(ap, key=lambda row: (ap[row], row))
    if len(order) > _CARDS:
        order = order[: _CARDS // 2] + order[-_CARDS // 2 :]
    cards = []
    for row in order:
        labelled = [ann for ann in truth['annotations'] if ann['image_id'] == row]
        detected = [each for each in found if each['image_id'] == row]
        hits = [each['hit'] for each in detected if each['score'] >= _SHOWN]
        cards.append(
            dict(
                image=truth['images'][row],
                ap=ap[row],
                file=files[row],
                page=f'{row}_{Path(files[row]).name}.html',
                jpeg=photo_uri(cv2.imread(files[row]), _PICTURE),
                truth=labelled,
                found=detected,
                summary=f'{sum(hits)} of {len(labelled)} found, {len(hits) - sum(hits)} wrong',
            )
        )
    return cards


# --- plots, as SVG in the page -------------------------------------------------------------------


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', bbox_inches='tight')
    return Markup(buffer.getvalue()[buffer.getvalue().index('<svg') :])


def _training_curves(history: Mapping[str, Any], schedule: Mapping[str, Any]) -> Markup:
    values = {name: [float(v) for v in scalar.data[0]] for name, scalar in history.items()}
    figure = Figure(figsize=(11, 7))
    above, below = figure.subplots(2, 1, sharex=True)
    for name, label in (('mAP', 'AP'), ('mAP_50', 'AP50')):
        figures = values.get(f'val/coco/bbox_{name}', [])
        steps = schedule['val_interval'] * np.arange(1, len(figures) + 1)
        steps = np.minimum(steps, schedule.get('max_iters', np.inf))  # the last one comes early
        above.plot(steps, figures, 'o-', label=label, markersize=3)
    above.set(ylabel='on held-out images', ylim=(0, None))
    for name, losses in sorted(values.items()):
        if name.startswith('train/') and 'loss' in name and name != 'train/loss' and losses:
            width = max(len(losses) // 40, 1)
            smooth = np.convolve(losses, np.ones(width) / width, 'valid')
            below.plot(np.arange(width, len(losses) + 1), smooth, label=name[6:], linewidth=1)
    below.set(xlabel='iteration', ylabel='parts of the loss')
    for ax in (above, below):
        ax.legend(fontsize=8, bbox_to_anchor=(1, 1), loc='upper left')
    return _svg(figure)
