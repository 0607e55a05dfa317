"""Precision and recall are those of pycocotools and of the package lvis."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lvis import LVIS, LVISEval
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from .generated import build, detections_for, ground_truth

EXACT = dict(rtol=0, atol=1e-9)
CASES = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 10**6)


def ours(kind, folder, content, dets, metric, max_dets):
    """Precision, recall, and the detections in COCO's format."""
    masks = metric == 'segm'
    built = build(kind, folder, content, dets, masks, metric=metric)
    built.cat_ids = built._ids_of_labels()
    built._image_index = {image['id']: i for i, image in enumerate(content['images'])}
    preds = [result for _, result in built.results]
    files = built.results2json(preds, str(folder / 'found'))
    found = json.loads(Path(files['segm' if masks else 'bbox']).read_text())
    for det in found if masks else ():
        del det['bbox']  # else its area would be taken for the mask's
    return *built._curves(preds, metric, max_dets), found


def compare_coco(folder, content, dets, metric='bbox', max_dets=(10, 100, 300)):
    precision, recall, found = ours(
        'CenterNet2CocoMetric', folder, content, dets, metric, list(max_dets)
    )
    truth = COCO(str(folder / 'annotations.json'))
    done = COCOeval(truth, truth.loadRes(found), 'segm' if metric == 'segm' else 'bbox')
    done.params.maxDets = list(max_dets)
    done.params.useCats = int(metric != 'proposal')
    done.evaluate()
    done.accumulate()
    np.testing.assert_allclose(precision, done.eval['precision'], **EXACT)
    np.testing.assert_allclose(recall, done.eval['recall'], **EXACT)
    assert recall.max() > 0
    return recall


def compare_lvis(folder, content, dets, metric='bbox'):
    """Against the unchanged package, which needs a name of old numpy."""
    precision, recall, found = ours('CenterNet2LVISMetric', folder, content, dets, metric, [300])
    done = LVISEval(LVIS(str(folder / 'annotations.json')), found, metric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, 'float', float, raising=False)
        done.evaluate()
        done.accumulate()
    np.testing.assert_allclose(precision[..., 0], done.eval['precision'], **EXACT)
    np.testing.assert_allclose(recall[..., 0], done.eval['recall'], **EXACT)
    return precision


@CASES
@given(seed=seeds, metric=st.sampled_from(['bbox', 'bbox', 'segm', 'proposal']))
def test_coco(tmp_path, seed, metric):
    masks = metric == 'segm'
    content = ground_truth(seed, masks=masks)
    if content['annotations'] and not all(a['iscrowd'] for a in content['annotations']):
        dets = detections_for(content, seed, masks=masks) + detections_for(content, 0, masks=masks)
        compare_coco(tmp_path, content, dets, metric)


@CASES
@given(seed=seeds, metric=st.sampled_from(['bbox', 'bbox', 'segm']))
def test_lvis(tmp_path, seed, metric):
    masks = metric == 'segm'
    content = ground_truth(seed, lvis=True, masks=masks)
    compare_lvis(tmp_path, content, detections_for(content, seed, masks=masks), metric)


def test_more_detections_than_count(tmp_path):
    """450 in an image: 10, 100 or 300 count, in LVIS the best 300."""
    content = ground_truth(3, 4, 3, most=40)
    dets = detections_for(content, 3, per_image=900)
    assert max(sum(d['image_id'] == i for d in dets) for i in range(1, 5)) > 450
    recall = compare_coco(tmp_path, content, dets)
    assert len(set(recall.sum((0, 1, 2)))) == 3
    compare_lvis(tmp_path, ground_truth(3, 4, 3, most=40, lvis=True), dets)


@pytest.mark.parametrize('key', ['neg_category_ids', 'not_exhaustive_category_ids', 'ignore'])
def test_lvis_semantics_are_at_work(tmp_path, key):
    """Each has an effect on generated data, so the test above is of use."""
    content = ground_truth(2, num_images=40, lvis=True)
    dets = detections_for(content, 2)
    changed = copy.deepcopy(content)
    for image in changed['images']:
        image.update({key: []} if key in image else {})
    for ann in changed['annotations'][::3]:
        ann['ignore'] = int(key == 'ignore')
    first, second = (compare_lvis(tmp_path, c, dets) for c in (content, changed))
    assert first.sum() != second.sum()


def test_crowds_are_at_work(tmp_path):
    content = ground_truth(2, num_images=40)
    dets = detections_for(content, 2)
    first = compare_coco(tmp_path, content, dets)
    for ann in content['annotations']:
        ann['iscrowd'] = 0
    assert compare_coco(tmp_path, content, dets).sum() != first.sum()
