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
import numpy as np
from hotcoco import COCO, COCOeval
from markupsafe import Markup
from matplotlib.figure import Figure  # no pyplot: there may be no display
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmdet_centernet2.datasets.annotation_file import read_annotations

PAGES = Path(__file__).parent / 'pages'
_CARDS = 12  # half of them the worst, half the best
_PICTURE = 900  # pixels of the longer edge, at most
_SHOWN = 0.3  # score of a box that counts as found
_CURVES = 12  # classes with a curve of their own
_ERRORS = {
    'Loc': ('localisation', 'right class, box too far off (IoU 0.1 to 0.5)'),
    'Cls': ('class', 'right place, wrong class'),
    'Both': ('both', 'wrong class and box off'),
    'Dupe': ('duplicate', 'a second box on a found object'),
    'Bkg': ('background', 'nothing is labelled there'),
    'Miss': ('missed', 'labelled, not found by any box'),
}


def render(template: str, **values: Any) -> str:
    """Fill a template of ``pages/``; text is escaped, ``Markup`` is not."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined
    )
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
    """Write the page.

    Args:
        path: A ``.html`` file that needs no other file.
        cfg: The config that was trained.
        samples: Of the held-out images, with ``pred_instances``.
        history: mmengine's ``message_hub.log_scalars``.
        why: Called for each picture that is shown; gives the address of a page that explains it.
    """
    classes = list(cfg.train_dataloader.dataset.metainfo.classes)
    truth = _content(cfg.val_evaluator, classes)
    training = _content(cfg.train_dataloader.dataset, classes)
    found = [row for sample in samples for row in _rows(sample)]
    result = _evaluate(truth, found)
    counts = [
        Counter(a['category_id'] for a in content['annotations']) for content in (truth, training)
    ]
    diagnostics = result.image_diagnostics()
    metrics = result.results()['metrics']
    page = render(
        'report.html',
        title=path.resolve().parent.name,
        model=Path(cfg.filename).name,
        ap=metrics['AP'],
        ap50=metrics['AP50'],
        images=len(truth['images']),
        boxes=len(truth['annotations']),
        classes=_class_rows(result, classes, counts),
        cards=_cards(truth, found, samples, diagnostics, classes, why),
        errors=_error_rows(result),
        doubtful=_doubtful(diagnostics, truth),
        confusion=_confusion(result),
        pr_curve=_pr_curve(result, classes),
        curves=_training_curves(history, cfg.train_cfg.val_interval),
        statistics=_statistics(training, classes),
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


def _evaluate(truth: dict, found: list[dict]) -> COCOeval:
    ground_truth = COCO(truth)
    result = COCOeval(ground_truth, ground_truth.load_res(found), 'bbox')
    result.evaluate()
    result.accumulate()
    result.summary_lines()
    return result


def _class_rows(result: COCOeval, classes: list[str], counts: list[Counter]) -> list[dict]:
    """The worst class first; -1 where there is no held-out box, which come last."""
    precision = result.eval['precision'][:, :, :, 0, -1]  # IoU, recall, class
    recall = result.eval['recall'][0, :, 0, -1]
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


def _error_rows(result: COCOeval) -> list[dict]:
    errors = result.tide_errors()
    rows = [
        dict(name=name, what=what, count=errors['counts'][key], lost=errors['delta_ap'][key])
        for key, (name, what) in _ERRORS.items()
    ]
    return sorted(rows, key=lambda row: -row['lost'])


def _doubtful(diagnostics: dict, truth: dict) -> list[str]:
    """Labels that the model contradicts with a high score."""
    names = {image['id']: image['file_name'] for image in truth['images']}
    return [
        f'{names[each["image_id"]]}: {each["type"].replace("_", " ")}, score {each["dt_score"]:.2f}'
        for each in diagnostics['label_errors'][:10]
    ]


def _cards(
    truth: dict,
    found: list[dict],
    samples: Sequence[DetDataSample],
    diagnostics: dict,
    classes: list[str],
    why: Callable[[DetDataSample], str] | None,
) -> list[dict]:
    """The images with the lowest and the highest AP, with their boxes."""
    ap = {number: image['ap'] for number, image in diagnostics['img_summary'].items()}
    order = sorted((s for s in samples if s.img_id in ap), key=lambda s: ap[s.img_id])
    if len(order) > _CARDS:
        order = order[: _CARDS // 2] + order[-_CARDS // 2 :]
    boxes: dict[Any, tuple[list, list]] = {image['id']: ([], []) for image in truth['images']}
    for ann in truth['annotations']:
        boxes[ann['image_id']][0].append(_box(ann, classes))
    for number, row in enumerate(found, 1):  # as the evaluation counts them
        hit = diagnostics['dt_status'].get(number) == 'tp'
        box = _box(row, classes) | dict(score=round(row['score'], 3), hit=hit)
        boxes[row['image_id']][1].append(box)
    names = {image['id']: image['file_name'] for image in truth['images']}
    cards = []
    for sample in order:
        picture = cv2.imread(sample.img_path)
        height, width = picture.shape[:2]
        labelled, detected = boxes[sample.img_id]
        shown = [box['hit'] for box in detected if box['score'] >= _SHOWN]
        cards.append(
            dict(
                name=names[sample.img_id],
                width=width,
                height=height,
                jpeg=embedded_photo(picture, _PICTURE, 85),
                truth=labelled,
                found=detected,
                ap=ap[sample.img_id],
                summary=f'{sum(shown)} of {len(labelled)} found, {len(shown) - sum(shown)} wrong',
                why=why and why(sample),
            )
        )
    return cards


def _box(ann: dict, classes: list[str]) -> dict[str, Any]:
    x, y, w, h = (round(value, 1) for value in ann['bbox'])
    return dict(x=x, y=y, w=w, h=h, name=classes[ann['category_id'] - 1])


# --- plots, as SVG in the page -------------------------------------------------------------------


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', bbox_inches='tight')
    return Markup(buffer.getvalue()[buffer.getvalue().index('<svg') :])


def _confusion(result: COCOeval) -> Markup:
    found = result.confusion_matrix(min_score=_SHOWN)
    names = [*found['cat_names'], 'nothing']
    size = min(max(0.45 * len(names), 3), 16)
    figure = Figure(figsize=(size + 2, size))
    ax = figure.subplots()
    ax.imshow(found['normalized'], cmap='Blues', vmin=0, vmax=1)
    if len(names) <= 25:
        for (row, column), count in np.ndenumerate(found['matrix']):
            if count:
                dark = found['normalized'][row, column] > 0.5
                colour = 'white' if dark else 'black'
                ax.text(column, row, int(count), ha='center', va='center', size=8, color=colour)
    ax.set_xticks(range(len(names)), names, rotation=90)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel='found as', ylabel='labelled as')
    return _svg(figure)


def _pr_curve(result: COCOeval, classes: list[str]) -> Markup:
    precision = result.eval['precision'][0, :, :, 0, -1]  # at IoU 0.5
    recall = np.linspace(0, 1, len(precision))
    known = [i for i in range(len(classes)) if precision[0, i] >= 0]
    figure = Figure(figsize=(7, 4))
    ax = figure.subplots()
    for index in known[:_CURVES]:
        ax.plot(recall, precision[:, index], label=classes[index], linewidth=1)
    if len(known) > 1:
        mean = precision[:, known].mean(1)
        ax.plot(recall, mean, 'k', linewidth=2, label=f'mean of {len(known)} classes')
    ax.set(xlabel='recall', ylabel='precision at IoU 0.5', xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(fontsize=8, bbox_to_anchor=(1, 1), loc='upper left')
    return _svg(figure)


def _training_curves(history: Mapping[str, Any], interval: int) -> Markup:
    figure = Figure(figsize=(11, 7))
    above, below = figure.subplots(2, 1, height_ratios=(1, 1))
    for name, label in (('mAP', 'AP'), ('mAP_50', 'AP50')):
        values = _values(history, f'val/coco/bbox_{name}')
        steps = interval * np.arange(1, len(values) + 1)
        above.plot(steps, values, 'o-', label=label, markersize=3)
    above.set(ylabel='on held-out images', ylim=(0, None))
    for name in sorted(history):
        if name.startswith('train/') and 'loss' in name and name != 'train/loss':
            values = _values(history, name)
            if values:
                smooth = np.convolve(values, np.ones(w := max(len(values) // 40, 1)) / w, 'valid')
                below.plot(np.arange(w, len(values) + 1), smooth, label=name[6:], linewidth=1)
    below.set(xlabel='iteration', ylabel='parts of the loss')
    for ax in (above, below):
        ax.legend(fontsize=8, bbox_to_anchor=(1, 1), loc='upper left')
    return _svg(figure)


def _values(history: Mapping[str, Any], name: str) -> list[float]:
    return [float(v) for v in history[name].data[0]] if name in history else []


def _statistics(training: dict, classes: list[str]) -> Markup:
    boxes = np.array([ann['bbox'] for ann in training['annotations']], dtype=float).reshape(-1, 4)
    per_image = Counter(ann['image_id'] for ann in training['annotations'])
    counts = Counter(ann['category_id'] for ann in training['annotations'])
    figure = Figure(figsize=(11, 3))
    left, middle, right = figure.subplots(1, 3)
    top = sorted(counts.items(), key=lambda item: -item[1])[:20]
    left.barh([classes[i - 1] for i, _ in top][::-1], [n for _, n in top][::-1])
    left.set(title='training boxes of each class')
    middle.hist(np.sqrt(boxes[:, 2:].prod(1)), bins=30)
    middle.set(title='size: root of the area, px')
    right.hist([per_image[image['id']] for image in training['images']], bins=20)
    right.set(title='boxes of an image')
    return _svg(figure)
