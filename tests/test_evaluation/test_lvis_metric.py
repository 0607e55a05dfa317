"""LVIS figures against those of the unchanged package on an old numpy."""

import collections
import copy
import json

import numpy as np
import pytest
import torch
from lvis import LVIS, LVISEval
from mmdet.registry import METRICS
from mmengine.structures import InstanceData

from mmdet_centernet2.evaluation.lvis_eval import SparseLVISEval
from tests.paths import DATA

CASE = DATA / 'lvis_case'
TRUTH = CASE / 'gt.json'
FIGURES = json.loads((CASE / 'figures.json').read_text())
EXACT = dict(rel=1e-12, abs=1e-12)


def detections():
    return json.loads((CASE / 'detections.json').read_text())


def build(ann_file=TRUTH, **kwargs):
    return METRICS.build(dict(type='CenterNet2LVISMetric', ann_file=str(ann_file), **kwargs))


def data_samples(dets, keep=lambda det: True):
    """What a detector would hand to the metric."""
    for image in json.loads(TRUTH.read_text())['images']:
        own = [d for d in dets if d['image_id'] == image['id'] and keep(d)]
        boxes = torch.tensor([d['bbox'] for d in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        yield dict(
            img_id=image['id'],
            ori_shape=(image['height'], image['width']),
            pred_instances=InstanceData(
                bboxes=boxes,
                scores=torch.tensor([d['score'] for d in own]),
                labels=torch.tensor([d['category_id'] - 1 for d in own], dtype=torch.long),
            ),
        )


def evaluate(metric, samples):
    samples = list(samples)
    metric.process({}, samples)
    return metric.evaluate(len(samples))


@pytest.mark.parametrize('iou_type', ['bbox', 'segm'])
def test_figures_of_old_numpy(iou_type):
    done = SparseLVISEval(LVIS(str(TRUTH)), detections(), iou_type)
    done.run()
    expected = FIGURES[iou_type]
    assert done.results == pytest.approx(expected['results'], **EXACT)
    precision = done.eval['precision'][:, :, :, 0].mean(axis=(0, 1))
    recall = done.eval['recall'][:, :, 0].mean(axis=0)
    assert precision.tolist() == pytest.approx(expected['category_ap'], **EXACT)
    assert recall.tolist() == pytest.approx(expected['category_recall'], **EXACT)


def test_visiting_filled_pairs_only_changes_nothing():
    full = LVISEval(LVIS(str(TRUTH)), detections(), 'bbox')
    full.evaluate()
    sparse = SparseLVISEval(LVIS(str(TRUTH)), detections(), 'bbox')
    sparse.evaluate()
    assert len(full.eval_imgs) == 8 * 12 * 4  # images, categories, areas
    for index in range(12 * 4):
        expected = full.eval_imgs[index * 8 :][:8]
        np.testing.assert_equal(
            sparse.eval_imgs[divmod(index, 4)], [e for e in expected if e is not None]
        )


def test_metric_gives_the_figures():
    found = evaluate(build(), data_samples(detections()))
    names = ['AP', 'AP50', 'AP75', 'APs', 'APm', 'APl', 'APr', 'APc', 'APf']
    expected = FIGURES['bbox']['results']
    assert found == pytest.approx({f'lvis/bbox_{name}': expected[name] for name in names}, **EXACT)


def test_numpy_and_the_other_packages_stay_as_they_are():
    before = LVISEval.accumulate, LVISEval.evaluate, set(vars(np))
    evaluate(build(), data_samples(detections()))
    assert (LVISEval.accumulate, LVISEval.evaluate, set(vars(np))) == before


def test_perfect_detections():
    truth = json.loads(TRUTH.read_text())['annotations']
    metric = build(metric=['bbox', 'proposal_fast'], proposal_nums=(5, 300))
    found = evaluate(metric, data_samples([dict(a, score=0.5) for a in truth]))
    assert found['lvis/bbox_AP'] == found['lvis/bbox_APr'] == 1
    assert found['lvis/AR@300'] == 1
    per_image = collections.Counter(a['image_id'] for a in truth)
    first_five = sum(min(n, 5) for n in per_image.values())
    assert found['lvis/AR@5'] == pytest.approx(first_five / len(truth))


def test_classwise_and_proposal_recall():
    metric = build(classwise=True, metric=['bbox', 'proposal_fast'])
    found = evaluate(metric, data_samples(detections()))
    category_ap = FIGURES['bbox']['category_ap']
    assert found['lvis/thing_1_precision'] == pytest.approx(category_ap[0], abs=6e-4)
    assert np.isnan(found['lvis/thing_12_precision'])
    assert 0 < found['lvis/AR@100'] <= found['lvis/AR@300'] <= 1


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
        (lambda c: c['categories'].reverse(), 'not sorted by "id"'),
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
