"""The metric's figures, names and files are mmdet's."""

import copy
import json

import pytest
from mmdet.registry import METRICS

from .generated import build, detections_for, evaluate, ground_truth, samples

EXACT = dict(rel=0, abs=1e-9, nan_ok=True)
BOTH = pytest.mark.parametrize('kind', ['CenterNet2CocoMetric', 'CenterNet2LVISMetric'])
COCO = 'CenterNet2CocoMetric'


@pytest.fixture(scope='module')
def case():
    content = ground_truth(7, 25, lvis=True, masks=True)
    for index, ann in enumerate(content['annotations']):
        ann['iscrowd'] = int(index % 7 == 0)
    return content, detections_for(content, 7, masks=True)


def backwards(content, dets):
    """The same with categories whose ids are not in the order of the labels."""
    content, dets = copy.deepcopy((content, dets))
    for entry in content['categories']:
        entry['id'] = 100 - entry['id']
    for entry in content['annotations'] + dets:
        entry['category_id'] = 100 - entry['category_id']
    return content, dets


def test_figures(tmp_path, case):
    options = dict(metric=['bbox', 'segm', 'proposal'], classwise=True)
    found, numbered = (
        evaluate(COCO, tmp_path, *data, True, **options) for data in (case, backwards(*case))
    )
    assert found == pytest.approx(numbered, **EXACT)
    assert 0 < found['coco/AR@1000'] != found['coco/segm_mAP']
    theirs = evaluate('CocoMetric', tmp_path, *case, True, **options)
    assert set(found) == set(theirs)
    assert found == pytest.approx(theirs, rel=0, abs=6e-4, nan_ok=True)
    assert 0 < found['coco/bbox_mAP'] != theirs['coco/bbox_mAP']


def test_both_recalls_of_proposals(tmp_path, case):
    """They have the same names; as in mmdet, the later one stays."""
    fast, slow, both = (
        evaluate(COCO, tmp_path, *case, metric=metric)
        for metric in ('proposal_fast', 'proposal', ['proposal', 'proposal_fast'])
    )
    assert fast['coco/AR@100'] > 0 and slow['coco/AR_m@1000'] > 0
    assert both == {**slow, **fast}


def test_without_any_detection(tmp_path, case):
    assert evaluate(COCO, tmp_path, case[0], []) == {}


def test_another_file_than_the_data_sets(tmp_path, case):
    metric = build(COCO, tmp_path, *case)
    metric.results[2][1]['img_id'] = 77
    with pytest.raises(ValueError, match='image id 77 was tested, but is not in'):
        metric.evaluate(25)
    metric = build(COCO, tmp_path, *case)
    metric.dataset_meta['classes'].insert(0, 'unicorn')
    with pytest.raises(ValueError, match='only 7 of the 8 classes'):
        metric.evaluate(25)


@BOTH
def test_results_files_are_mmdets(tmp_path, case, kind):
    for name in (kind, 'CocoMetric'):
        options = dict(format_only=True, outfile_prefix=str(tmp_path / name))
        assert evaluate(name, tmp_path, *case, True, **options) == {}
    for end in ('bbox.json', 'segm.json'):
        ours, theirs = (tmp_path / f'{n}.{end}' for n in (kind, 'CocoMetric'))
        assert json.loads(ours.read_text()) == json.loads(theirs.read_text())


def test_truth_of_the_data_set(case):
    """Without a file, objects come with the images, as in mmdet."""
    content, dets = case
    found = []
    for kind in (COCO, 'CocoMetric'):
        metric = METRICS.build(dict(type=kind))
        metric.dataset_meta = dict(classes=[c['name'] for c in content['categories']])
        batch = list(samples(content, dets))
        for sample in batch:
            sample['instances'] = [
                dict(bbox=[x, y, x + w, y + h], bbox_label=a['category_id'] - 1)
                for a in content['annotations']
                if a['image_id'] == sample['img_id']
                for x, y, w, h in [a['bbox']]
            ]
        metric.process({}, batch)
        found.append(metric.evaluate(len(batch)))
    assert found[0]['coco/bbox_mAP'] > 0
    assert found[0] == pytest.approx(found[1], rel=0, abs=6e-4)
