"""LVIS figures against those of the unchanged package on an old numpy."""

import collections
import copy
import json

import numpy as np
import pytest
from mmdet.registry import METRICS
from pycocotools import mask as mask_utils

from tests.paths import DATA

from .generated import samples

CASE = DATA / 'lvis_case'
TRUTH = CASE / 'gt.json'
FIGURES = json.loads((CASE / 'figures.json').read_text())
EXACT = dict(rel=1e-12, abs=1e-12)


def detections():
    return json.loads((CASE / 'detections.json').read_text())


def build(ann_file=TRUTH, **kwargs):
    return METRICS.build(dict(type='CenterNet2LVISMetric', ann_file=str(ann_file), **kwargs))


def data_samples(dets, keep=lambda det: True):
    return samples(json.loads(TRUTH.read_text()), [det for det in dets if keep(det)])


def evaluate(metric, samples):
    samples = list(samples)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
def test_figures_of_old_numpy(iou_type):
    metric = build(metric=iou_type, classwise=True)
    batch = list(data_samples(detections()))
    metric.process({}, batch)
    for sample, (_, result) in zip(batch, metric.results):
        x1, y1, x2, y2 = result['bboxes'].astype(float).T  # lvis takes boxes for masks
        polygons = np.stack([x1, y1, x1, y2, x2, y2, x2, y1], 1)
        result['masks'] = [mask_utils.frPyObjects([p], *sample['ori_shape'])[0] for p in polygons]
    found = metric.evaluate(len(batch))
    names = ['AP', 'AP50', 'AP75', 'APr', 'APc', 'APf']
    if iou_type == 'bbox':  # the reference has the area of boxes for masks, too
        names += ['APs', 'APm', 'APl']
    expected = FIGURES[iou_type]
    assert {name: found[f'lvis/{iou_type}_{name}'] for name in names} == pytest.approx(
        {name: expected['results'][name] for name in names}, **EXACT
    )
    for number, value in enumerate(expected['category_ap'], 1):
        ap = found[f'lvis/thing_{number}_precision']
        assert np.isnan(ap) if value == -1 else ap == pytest.approx(value, **EXACT)


def test_perfect_detections():
    truth = json.loads(TRUTH.read_text())['annotations']
    metric = build(metric=['bbox', 'proposal_fast'], proposal_nums=(5, 300))
    found = evaluate(metric, data_samples([dict(a, score=0.5) for a in truth]))
    assert found['lvis/bbox_AP'] == found['lvis/bbox_APr'] == 1
    assert found['lvis/AR@300'] == 1
    per_image = collections.Counter(a['image_id'] for a in truth)
    first_five = sum(min(n, 5) for n in per_image.values())
    assert found['lvis/AR@5'] == pytest.approx(first_five / len(truth))


def test_without_any_detection_no_figure_is_made_up():
    assert evaluate(build(), data_samples(detections(), lambda d: False)) == {}


def changed(tmp_path, change):
    content = json.loads(TRUTH.read_text())
    change(content)
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    return tmp_path / 'gt.json'


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda c: c['images'][2].pop('neg_category_ids'),
            'image 3 has no "neg_category_ids".*CocoMetric',
        ),
        (
            lambda c: c['images'][0].pop('not_exhaustive_category_ids'),
            'image 1 has no "not_exhaustive_category_ids"',
        ),
        (
            lambda c: c['categories'][1].update(frequency='often'),
            "category 2 has the frequency 'often'",
        ),
        (
            lambda c: c['images'][2].update(neg_category_ids=None),
            'image 3 has no "neg_category_ids".*found None',
        ),
        (
            lambda c: c['images'][2].update(neg_category_ids=['1']),
            'image 3 has no "neg_category_ids", a list of category ids',
        ),
    ],
)
def test_says_what_the_file_lacks(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        build(changed(tmp_path, change))


def test_says_what_it_cannot_do():
    with pytest.raises(ValueError, match='needs ann_file'):
        METRICS.build(dict(type='CenterNet2LVISMetric'))
    with pytest.raises(ValueError, match='proposal_fast'):
        build(metric='proposal')


def test_figures_depend_on_the_detections():
    """A guard against figures that would hold for anything."""
    dets = copy.deepcopy(detections())
    fewer = evaluate(build(), data_samples(dets, lambda d: d['category_id'] != 1))
    # only one of the two rare categories that have objects is left
    assert fewer['lvis/bbox_APr'] < FIGURES['bbox']['results']['APr']
