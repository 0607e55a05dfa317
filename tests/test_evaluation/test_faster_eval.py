"""The compiled package gives the figures of pycocotools and of lvis."""

import builtins
import json
import logging

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lvis import LVIS, LVISResults
from mmdet.datasets.api_wrappers import COCO, COCOeval
from mmdet.registry import METRICS
from mmengine.structures import InstanceData
from pycocotools import mask as mask_utils

from mmdet_centernet2.evaluation.coco_eval import FasterCOCOeval
from mmdet_centernet2.evaluation.lvis_eval import FasterLVISEval, SparseLVISEval
from tests.paths import DATA

from .generated import SIZE, detections_for, ground_truth, separate

EXACT = dict(rtol=0, atol=1e-9)
PROPOSAL_NUMS = (100, 300, 1000)
BACKENDS = ('pycocotools', 'faster_coco_eval')
seeds = st.integers(0, 10**6)


def coco_api(content):
    api = COCO()
    api.dataset = content
    api.createIndex()
    return api


def lvis_api(content):
    api = LVIS.__new__(LVIS)
    api.logger = logging.getLogger(__name__)
    api.dataset = content
    api._create_index()
    return api


def run_coco(
    evaluation,
    content,
    dets,
    iou_type='bbox',
    use_cats=1,
    max_dets=PROPOSAL_NUMS,
    cat_ids=None,
    img_ids=None,
):
    content, dets = separate(content, dets)
    if iou_type == 'segm':
        for det in dets:
            det.pop('bbox')  # as mmdet does
    truth = coco_api(content)
    done = evaluation(truth, truth.loadRes(dets), iou_type)
    done.params.maxDets = list(max_dets)
    done.params.useCats = use_cats
    done.params.catIds = cat_ids or done.params.catIds
    done.params.imgIds = img_ids or done.params.imgIds
    done.evaluate()
    done.accumulate()
    done.summarize()
    return done


def run_lvis(evaluation, content, dets, iou_type='bbox'):
    content, dets = separate(content, dets)
    truth = lvis_api(content)
    done = evaluation(truth, LVISResults(truth, dets), iou_type)
    done.run()
    return done


def assert_same(found, expected):
    for name in ('precision', 'recall'):
        assert found.eval[name].shape == expected.eval[name].shape
        np.testing.assert_allclose(found.eval[name], expected.eval[name], **EXACT)
    if isinstance(expected, COCOeval):
        np.testing.assert_allclose(found.stats, expected.stats, **EXACT)
    else:
        assert set(found.results) == set(expected.results)
        for name, value in expected.results.items():
            np.testing.assert_allclose(found.results[name], value, **EXACT)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, use_cats=st.sampled_from([1, 1, 0]))
def test_coco_boxes(seed, use_cats):
    content = ground_truth(seed)
    dets = detections_for(content, seed)
    both = [
        run_coco(evaluation, content, dets, use_cats=use_cats)
        for evaluation in (FasterCOCOeval, COCOeval)
    ]
    assert_same(*both)


@settings(max_examples=12, deadline=None)
@given(seed=seeds)
def test_coco_masks(seed):
    content = ground_truth(seed, masks=True)
    dets = detections_for(content, seed, masks=True)
    assert_same(
        *(run_coco(evaluation, content, dets, 'segm') for evaluation in (FasterCOCOeval, COCOeval))
    )


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_lvis_boxes(seed):
    content = ground_truth(seed, lvis=True)
    dets = detections_for(content, seed)
    assert_same(
        *(run_lvis(evaluation, content, dets) for evaluation in (FasterLVISEval, SparseLVISEval))
    )


@settings(max_examples=12, deadline=None)
@given(seed=seeds)
def test_lvis_masks(seed):
    content = ground_truth(seed, lvis=True, masks=True)
    dets = detections_for(content, seed, masks=True)
    assert_same(
        *(
            run_lvis(evaluation, content, dets, 'segm')
            for evaluation in (FasterLVISEval, SparseLVISEval)
        )
    )


def test_more_detections_than_count():
    """450 in an image: 100, 300 or 1,000 count, in LVIS the best 300."""
    content = ground_truth(3, 4, 3, most=40)
    dets = detections_for(content, 3, per_image=900)
    most = max(sum(d['image_id'] == i for d in dets) for i in range(1, 5))
    assert most > 450
    found, expected = (
        run_coco(evaluation, content, dets, max_dets=(10, 100, 300))
        for evaluation in (FasterCOCOeval, COCOeval)
    )
    assert_same(found, expected)
    assert len(set(expected.stats[6:9])) == 3
    content = ground_truth(3, 4, 3, most=40, lvis=True)
    assert_same(
        *(run_lvis(evaluation, content, dets) for evaluation in (FasterLVISEval, SparseLVISEval))
    )


def test_some_categories_and_images():
    content = ground_truth(5)
    dets = detections_for(content, 5)
    chosen = dict(cat_ids=[6, 2, 7], img_ids=[9, 3, 1, 12, 5])
    assert_same(
        *(
            run_coco(evaluation, content, dets, **chosen)
            for evaluation in (FasterCOCOeval, COCOeval)
        )
    )


def test_lvis_semantics_are_at_work():
    """Each has an effect on generated data, so the tests above are of use."""
    content = ground_truth(2, num_images=40, lvis=True)
    dets = detections_for(content, 2)
    base = run_lvis(FasterLVISEval, content, dets).results['AP']
    for key in ('neg_category_ids', 'not_exhaustive_category_ids'):
        changed = separate(content)[0]
        for image in changed['images']:
            image[key] = []
        assert run_lvis(FasterLVISEval, changed, dets).results['AP'] != base


def test_crowds_are_at_work():
    content = ground_truth(2, num_images=40)
    dets = detections_for(content, 2)
    base = run_coco(FasterCOCOeval, content, dets).stats[0]
    for ann in content['annotations']:
        ann['iscrowd'] = 0
    assert run_coco(FasterCOCOeval, content, dets).stats[0] != base


@pytest.mark.parametrize('key', ['ignore', 'iscrowd'])
def test_lvis_with_unusual_annotations(key):
    content = ground_truth(4, lvis=True)
    for ann in content['annotations'][::3]:
        ann[key] = 1
    dets = detections_for(content, 4)
    assert_same(
        *(run_lvis(evaluation, content, dets) for evaluation in (FasterLVISEval, SparseLVISEval))
    )


def test_what_is_given_stays_as_it_is():
    content = ground_truth(6)
    content, dets = separate(content, detections_for(content, 6))
    truth = coco_api(content)
    found = truth.loadRes(dets)
    done = FasterCOCOeval(truth, found, 'bbox')
    done._prepare()  # pycocotools itself writes "ignore"
    before = json.dumps([truth.dataset, found.dataset])
    done.evaluate()
    assert json.dumps([truth.dataset, found.dataset]) == before
    with pytest.raises(ValueError, match='other parameters'):
        done.accumulate(done.params)


def test_figures_of_old_numpy():
    """The case whose figures come from the unchanged lvis."""
    case = DATA / 'lvis_case'
    figures = json.loads((case / 'figures.json').read_text())
    dets = json.loads((case / 'detections.json').read_text())
    for iou_type in ('bbox', 'segm'):
        done = FasterLVISEval(LVIS(str(case / 'gt.json')), dets, iou_type)
        done.run()
        assert done.results == pytest.approx(figures[iou_type]['results'], rel=1e-12, abs=1e-12)


def samples(content, dets, masks=False):
    """What a detector would hand to a metric."""
    for image in content['images']:
        own = [d for d in dets if d['image_id'] == image['id']]
        boxes = torch.tensor([d['bbox'] for d in own]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(
            bboxes=boxes,
            scores=torch.tensor([d['score'] for d in own]),
            labels=torch.tensor([d['category_id'] - 1 for d in own], dtype=torch.long),
        )
        if masks:
            decoded = [mask_utils.decode(d['segmentation']) for d in own]
            found['masks'] = torch.from_numpy(np.array(decoded, bool).reshape(-1, *SIZE))
        yield dict(img_id=image['id'], ori_shape=SIZE, pred_instances=InstanceData(**found))


def evaluate(kind, path, content, dets, masks=False, **kwargs):
    metric = METRICS.build(dict(type=kind, ann_file=str(path), **kwargs))
    metric.dataset_meta = dict(classes=[c['name'] for c in content['categories']])
    metric.process({}, list(samples(content, dets, masks)))
    return metric.evaluate(len(content['images']))


@pytest.mark.parametrize(
    'kind, lvis, metrics',
    [
        ('CenterNet2CocoMetric', False, ['bbox', 'segm', 'proposal']),
        ('CenterNet2LVISMetric', True, ['bbox', 'segm', 'proposal_fast']),
    ],
)
def test_metrics(tmp_path, kind, lvis, metrics):
    content = ground_truth(7, 25, lvis=lvis, masks=True)
    dets = detections_for(content, 7, masks=True)
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    options = dict(metric=metrics, classwise=True)
    expected, found = (
        evaluate(kind, path, content, dets, True, backend=backend, **options)
        for backend in BACKENDS
    )
    assert found == pytest.approx(expected, rel=0, abs=1e-9, nan_ok=True)
    if not lvis:
        theirs = evaluate('CocoMetric', path, content, dets, True, **options)
        assert set(found) == set(theirs)
        assert found == pytest.approx(theirs, rel=0, abs=6e-4, nan_ok=True)
        assert 0 < found['coco/bbox_mAP'] != theirs['coco/bbox_mAP']
        assert 0 < found['coco/AR@1000'] != found['coco/segm_mAP']


def test_both_recalls_of_proposals(tmp_path):
    """They have the same names; as in mmdet, the later one stays."""
    content = ground_truth(7)
    dets = detections_for(content, 7)
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    fast, slow, both = (
        evaluate(
            'CenterNet2CocoMetric', path, content, dets, metric=metric, backend='faster_coco_eval'
        )
        for metric in ('proposal_fast', 'proposal', ['proposal', 'proposal_fast'])
    )
    assert fast['coco/AR@100'] > 0 and slow['coco/AR_m@1000'] > 0
    assert both == {**slow, **fast}


def test_without_any_detection(tmp_path):
    content = ground_truth(7)
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    for backend in BACKENDS:
        assert evaluate('CenterNet2CocoMetric', path, content, [], backend=backend) == {}


@pytest.mark.parametrize('kind', ['CenterNet2CocoMetric', 'CenterNet2LVISMetric'])
def test_missing_package(kind, monkeypatch):
    load = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith('faster_coco_eval'):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, '__import__', without)
    ann_file = str(DATA / 'lvis_case/gt.json')
    METRICS.build(dict(type=kind, ann_file=ann_file))  # not needed here
    with pytest.raises(ImportError, match=r'mmdet_centernet2\[eval\]'):
        METRICS.build(dict(type=kind, ann_file=ann_file, backend='faster_coco_eval'))


@pytest.mark.parametrize('kind', ['CenterNet2CocoMetric', 'CenterNet2LVISMetric'])
def test_unknown_backend(kind):
    with pytest.raises(ValueError, match='backend must be one of'):
        METRICS.build(dict(type=kind, ann_file='a.json', backend='turbo'))


def test_no_second_way_to_be_fast():
    with pytest.raises(ValueError, match='use_mp_eval=True is for'):
        METRICS.build(
            dict(type='CenterNet2CocoMetric', use_mp_eval=True, backend='faster_coco_eval')
        )


@pytest.mark.parametrize('kind', ['CenterNet2CocoMetric', 'CenterNet2LVISMetric'])
def test_results_files_are_mmdets(tmp_path, kind):
    lvis = 'LVIS' in kind
    content = ground_truth(7, lvis=lvis, masks=True)
    dets = detections_for(content, 7, masks=True)
    path = tmp_path / 'annotations.json'
    path.write_text(json.dumps(content))
    for name in (kind, 'CocoMetric'):
        assert (
            evaluate(
                name,
                path,
                content,
                dets,
                True,
                format_only=True,
                outfile_prefix=str(tmp_path / name),
            )
            == {}
        )
    for end in ('bbox.json', 'segm.json'):
        ours, theirs = (tmp_path / f'{n}.{end}' for n in (kind, 'CocoMetric'))
        assert ours.read_text() == theirs.read_text()


def test_truth_of_the_data_set():
    """Without a file, objects come with the images, as in mmdet."""
    content = ground_truth(7)
    dets = detections_for(content, 7)
    found = []
    for kind in ('CenterNet2CocoMetric', 'CocoMetric'):
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
