"""Make the small LVIS case, or its figures with the unchanged ``lvis``.

``python make_case.py inputs`` writes ``gt.json`` and ``detections.json``;
``python make_case.py figures`` runs ``lvis`` on them and writes
``figures.json``. The second needs numpy < 1.24 and nothing of this package.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
HEIGHT, WIDTH = 300, 400
NUM_IMAGES = 8
FREQUENCIES = 'rccffrcfrcff'
EMPTY_CATEGORY = 12  # never in an image
SIDES = (12, 24, 40, 70, 110, 180)  # pixels; small, medium and large areas


def random_box(rng, side):
    """(x, y, width, height), multiples of a quarter: exact in float32."""
    width, height = side * rng.uniform(0.7, 1.3, 2)
    x, y = rng.uniform(0, (WIDTH - width, HEIGHT - height))
    return [round(v * 4) / 4 for v in (x, y, width, height)]


def polygon(box):
    """An octagon in a box."""
    x, y, w, h = box
    corners = ((0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3))
    return [c for u, v in corners for c in (x + u * w, y + v * h)]


def make_ground_truth(rng):
    categories = [
        dict(id=i, name=f'thing_{i}', frequency=f, synset=f'thing.n.{i:02d}')
        for i, f in enumerate(FREQUENCIES, 1)
    ]
    images, annotations = [], []
    for image_id in range(1, NUM_IMAGES + 1):
        order = (rng.permutation(len(FREQUENCIES)) + 1).tolist()
        present, negative, unknown = order[:5], order[5:8], order[8]
        if image_id == NUM_IMAGES:
            present = []
        images.append(
            dict(
                id=image_id,
                height=HEIGHT,
                width=WIDTH,
                coco_url=f'http://images.cocodataset.org/val2017/{image_id:012d}.jpg',
                neg_category_ids=sorted(negative),
                not_exhaustive_category_ids=sorted(present[:1] + [unknown]),
            )
        )
        for category in set(present) - {EMPTY_CATEGORY}:
            for _ in range(rng.randint(1, 4)):
                box = random_box(rng, SIDES[rng.randint(len(SIDES))])
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=image_id,
                        category_id=category,
                        bbox=box,
                        area=box[2] * box[3],
                        segmentation=[polygon(box)],
                    )
                )
    return dict(images=images, annotations=annotations, categories=categories)


def make_detections(rng, truth):
    """Moved, doubled and mislabelled objects, and noise, with equal scores."""
    detections = []

    def add(image_id, category_id, box, score):
        detections.append(
            dict(
                image_id=image_id,
                category_id=int(category_id),
                bbox=box,
                score=max(1, round(score * 64)) / 64,
            )
        )

    for ann in truth['annotations']:
        for _ in range(rng.randint(0, 3)):
            shift = rng.normal(0, 0.06, 4) * (ann['bbox'][2:] * 2)
            box = [round(v * 4) / 4 for v in ann['bbox'] + shift]
            category = ann['category_id']
            if rng.rand() < 0.15:
                category = rng.randint(1, len(FREQUENCIES) + 1)
            add(ann['image_id'], category, box, rng.uniform(0.3, 1))
    for image_id in range(1, NUM_IMAGES + 1):
        # In one image more than the 300 that count.
        for _ in range(330 if image_id == 3 else 25):
            add(
                image_id,
                rng.randint(1, len(FREQUENCIES) + 1),
                random_box(rng, SIDES[rng.randint(len(SIDES))]),
                rng.uniform(0, 0.7),
            )
    return detections


def write(name, content):
    lines = json.dumps(content).replace('}, {', '},\n{')
    (HERE / name).write_text(lines + '\n')


def make_inputs():
    rng = np.random.RandomState(20)
    truth = make_ground_truth(rng)
    write('gt.json', truth)
    write('detections.json', make_detections(rng, truth))


def make_figures():
    if not hasattr(np, 'float'):
        sys.exit(f'error: numpy {np.__version__}: the unchanged lvis needs numpy < 1.24')
    from lvis import LVIS, LVISEval

    figures = dict(
        made_with=dict(python=platform.python_version(), numpy=np.__version__, lvis='0.5.3')
    )
    for iou_type in ('bbox', 'segm'):
        detections = json.loads((HERE / 'detections.json').read_text())
        evaluation = LVISEval(LVIS(str(HERE / 'gt.json')), detections, iou_type)
        evaluation.run()
        # -1 for a category without objects
        precision = evaluation.eval['precision'][:, :, :, 0]
        figures[iou_type] = dict(
            results={k: float(v) for k, v in evaluation.results.items()},
            category_ap=precision.mean(axis=(0, 1)).tolist(),
            category_recall=evaluation.eval['recall'][:, :, 0].mean(axis=0).tolist(),
        )
    (HERE / 'figures.json').write_text(json.dumps(figures, indent=1) + '\n')


if __name__ == '__main__':
    jobs = dict(inputs=make_inputs, figures=make_figures)
    if len(sys.argv) != 2 or sys.argv[1] not in jobs:
        sys.exit(__doc__)
    jobs[sys.argv[1]]()
