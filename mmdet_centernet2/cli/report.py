"""The page at the end of ``centernet2 train``: how good the detector is, and where it fails."""

from __future__ import annotations

import base64
import io
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from hotcoco import COCO, COCOeval, plot
from markupsafe import Markup
from matplotlib.figure import Figure
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmdet_centernet2.datasets.annotation_file import read_annotations

PAGES = Path(__file__).parent / 'pages'
_CARDS = 12  # half of them the worst, half the best
_PICTURE = 900  # pixels of the longer edge, at most
_SHOWN = 0.3  # score of a box that counts as found
_CURVES = 12  # classes with a curve of their own


def render(template: str, **values: Any) -> str:
    """Fill a template of ``pages/``; in HTML, text is escaped, ``Markup`` is not."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters['quoted'] = lambda value: repr(str(value))
    style = Markup((PAGES / 'style.css').read_text())
    return environment.get_template(template).render(style=style, **values)


def data_uri(picture: np.ndarray, ending: str, quality: int = 95) -> str:
    """A picture (H, W, 3 or 4) uint8, BGR, as part of a page; ``.jpg`` or ``.png``."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if ending == '.jpg' else []
    encoded = base64.b64encode(cv2.imencode(ending, picture, options)[1]).decode()
    return f'data:image/{"jpeg" if ending == ".jpg" else "png"};base64,{encoded}'


def embedded_photo(picture: np.ndarray, longest: int, quality: int) -> str:
    """A photo (H, W, 3) as part of a page, shrunk to a longer edge of pixels."""
    scale = min(longest / max(picture.shape[:2]), 1)
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return data_uri(picture, '.jpg', quality)


def write_report(
    path: Path,
    cfg: Config,
    samples: Sequence[DetDataSample],
    history: Mapping[str, Any],
    why: Callable[[DetDataSample], str] | None = None,
) -> None:
    """Write the page, which needs no other file, with ``labels.png`` if it lies beside it.

    ``samples`` are predictions for the held-out images, ``history`` is mmengine's
    ``message_hub.log_scalars``, and ``why`` gives the address of a page that explains a sample.
    """
    classes = list(cfg.train_dataloader.dataset.metainfo.classes)
    truth = _content(cfg.val_evaluator, classes)
    training = _content(cfg.train_dataloader.dataset, classes)
    found = [row for sample in samples for row in _rows(sample)]
    ground_truth = COCO(truth)
    result = COCOeval(ground_truth, ground_truth.load_res(found), 'bbox')
    result.evaluate()
    result.accumulate()
    result.summary_lines()
    diagnostics = result.image_diagnostics()
    names = {image['id']: image['file_name'] for image in truth['images']}
    labels = path.with_name('labels.png')
    page = render(
        'report.html',
        title=path.resolve().parent.name,
        model=Path(cfg.filename).name,
        metrics=result.results()['metrics'],
        truth=truth,
        classes=_class_rows(result, classes, truth, training),
        cards=_cards(truth, found, samples, diagnostics, names, why),
        errors=result.tide_errors(),
        names=names,
        doubtful=diagnostics['label_errors'][:10],
        confusion=_svg(plot.confusion_matrix(result.confusion_matrix(min_score=_SHOWN))[0]),
        pr_curve=_svg(plot.pr_curve(result, iou_thr=0.5, top_n=_CURVES)[0]),
        curves=_training_curves(history, cfg.train_cfg.val_interval),
        statistics=data_uri(cv2.imread(str(labels)), '.png') if labels.is_file() else None,
    )
    path.write_text(page, encoding='utf-8')


def _content(part: dict, classes: list[str]) -> dict[str, Any]:
    """The ``ann_file`` of a config with categories 1, 2, ... in the order of the classes."""
    bad_boxes = part.get('bad_boxes', 'error')
    content = read_annotations(part['ann_file'], evaluation=True, bad_boxes=bad_boxes)
    numbers = {
        each['id']: classes.index(each['name']) + 1
        for each in content['categories']
        if each['name'] in classes
    }
    return dict(
        images=content['images'],
        categories=[dict(id=i, name=name) for i, name in enumerate(classes, 1)],
        annotations=[
            dict(ann, category_id=numbers[ann['category_id']])
            for ann in content['annotations']
            if ann['category_id'] in numbers
        ],
    )


def _rows(sample: DetDataSample) -> list[dict]:
    """Detections of an image as COCO has them."""
    pred = sample.pred_instances
    boxes = pred.bboxes.clone()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        dict(image_id=sample.img_id, category_id=label + 1, bbox=box, score=score)
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
            boxes=counts[0][i + 1],
            training=counts[1][i + 1],
            values=[precision[:, :, i].mean(), precision[0, :, i].mean(), recall[i]],
        )
        for i, name in enumerate(classes)
    ]
    return sorted(rows, key=lambda row: (row['boxes'] == 0, row['values'][0]))


def _cards(
    truth: dict,
    found: list[dict],
    samples: Sequence[DetDataSample],
    diagnostics: dict,
    names: dict,
    why: Callable[[DetDataSample], str] | None,
) -> list[dict]:
    """The images with the lowest and the highest AP, with their boxes."""
    ap = {number: image['ap'] for number, image in diagnostics['img_summary'].items()}
    order = sorted((s for s in samples if s.img_id in ap), key=lambda s: ap[s.img_id])
    if len(order) > _CARDS:
        order = order[: _CARDS // 2] + order[-_CARDS // 2 :]
    classes = {each['id']: each['name'] for each in truth['categories']}
    labelled, detected = defaultdict(list), defaultdict(list)
    for ann in truth['annotations']:
        labelled[ann['image_id']].append(_box(ann, classes))
    for number, row in enumerate(found, 1):  # as the evaluation counts them
        hit = diagnostics['dt_status'].get(number) == 'tp'
        box = dict(_box(row, classes), score=round(row['score'], 3), hit=hit)
        detected[row['image_id']].append(box)
    cards = []
    for sample in order:
        picture, key = cv2.imread(sample.img_path), sample.img_id
        shown = [box['hit'] for box in detected[key] if box['score'] >= _SHOWN]
        cards.append(
            dict(
                name=names[key],
                width=picture.shape[1],
                height=picture.shape[0],
                jpeg=embedded_photo(picture, _PICTURE, 85),
                truth=labelled[key],
                found=detected[key],
                ap=ap[key],
                summary=f'{sum(shown)} of {len(labelled[key])} found, '
                f'{len(shown) - sum(shown)} wrong',
                why=why and why(sample),
            )
        )
    return cards


def _box(ann: dict, classes: dict[int, str]) -> dict[str, Any]:
    x, y, w, h = (round(value, 1) for value in ann['bbox'])
    return dict(x=x, y=y, w=w, h=h, name=classes[ann['category_id']])


# --- plots, as SVG in the page -------------------------------------------------------------------


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', bbox_inches='tight')
    return Markup(buffer.getvalue()[buffer.getvalue().index('<svg') :])


def _training_curves(history: Mapping[str, Any], interval: int) -> Markup:
    values = {name: [float(v) for v in scalar.data[0]] for name, scalar in history.items()}
    figure = Figure(figsize=(11, 7))
    above, below = figure.subplots(2, 1)
    for name, label in (('mAP', 'AP'), ('mAP_50', 'AP50')):
        figures = values.get(f'val/coco/bbox_{name}', [])
        steps = interval * np.arange(1, len(figures) + 1)
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
