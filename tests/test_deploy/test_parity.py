"""The comparison of two models: what it pairs, and what it must not hide."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.apis import init_detector

from mmdet_centernet2.deploy.parity import (
    agreement,
    average_precision,
    exported_finder,
    find_all,
    match,
    test_images,
    torch_finder,
)
from mmdet_centernet2.runtime import Detections, Detector
from tests._tiny import PICTURES, tiny_config, write_dataset
from tests.test_deploy.stand_in import write_model

pytestmark = pytest.mark.export


def detections(boxes, scores, labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    labels = np.zeros(len(boxes), np.int64) if labels is None else labels
    return Detections(boxes, np.array(scores, np.float32), np.array(labels))


def random_detections(seed, number):
    random = np.random.RandomState(seed)
    corners = random.uniform(0, 100, (number, 2))
    boxes = np.c_[corners, corners + random.uniform(5, 50, (number, 2))]
    return detections(boxes, random.rand(number), random.randint(0, 3, number))


# -----pairs-----
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), number=st.integers(0, 40))
def test_a_shuffled_copy_is_paired_with_itself(seed, number):
    found = random_detections(seed, number)
    order = np.random.RandomState(seed).permutation(number)
    first, second = match(found, found.keep(order))
    assert len(first) == number
    assert np.array_equal(found.bboxes[first], found.bboxes[order][second])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), lost=st.integers(0, 5), made_up=st.integers(0, 5))
def test_every_stray_is_counted(seed, lost, made_up):
    found = random_detections(seed, 20)
    strays = detections(
        [[500 + 50 * i, 0, 540 + 50 * i, 9] for i in range(made_up)], [0.5] * made_up
    )
    other = found.keep(np.arange(lost, 20))
    other = detections(
        np.r_[other.bboxes, strays.bboxes] + 0.25,
        np.r_[other.scores, strays.scores],
        np.r_[other.labels, strays.labels],
    )
    result = agreement([found], [other], 0.0)
    assert (result.pairs, result.only_reference, result.only_other) == (20 - lost, lost, made_up)
    assert result.box == pytest.approx(0.25, abs=1e-4)
    assert result.score == 0
    assert not result.within(box=0.2)
    assert result.within(box=0.3) == (lost == made_up == 0)


BOX = [10, 10, 20, 20]


@pytest.mark.parametrize(
    'one, other, counts',
    [
        pytest.param(([BOX, BOX], [0.9, 0.2]), ([BOX, BOX], [0.2, 0.9]), (2, 0, 0), id='scores'),
        pytest.param(([BOX], [0.9], [0]), ([BOX], [0.9], [1]), (0, 1, 1), id='another class'),
        pytest.param(
            ([BOX], [0.9]), ([BOX, [10, 10, 20, 20.1]], [0.9, 0.8]), (1, 0, 1), id='one for two'
        ),
        pytest.param(([], []), ([], []), (0, 0, 0), id='nothing'),
    ],
)
def test_who_is_paired(one, other, counts):
    result = agreement([detections(*one)], [detections(*other)])
    assert (result.pairs, result.only_reference, result.only_other) == counts
    assert result.images == 1 and result.score == result.box == 0
    assert result.within() == (counts[1:] == (0, 0))


def test_score_on_the_threshold_is_no_stray():
    """What one model lets through and the other just not, is still paired."""
    one = detections([[10, 10, 20, 20], [50, 50, 60, 60]], [0.30001, 0.1])
    other = detections([[10, 10, 20, 20]], [0.29999])
    result = agreement([one], [other], 0.3)
    assert (result.pairs, result.only_reference) == (1, 0)
    assert result.score == pytest.approx(2e-5, rel=0.01)


def test_masks_that_differ():
    one = detections([[0, 0, 4, 4]], [0.9])
    other = detections([[0, 0, 4, 4]], [0.9])
    one.masks = np.ones((1, 4, 4), bool)
    other.masks = one.masks.copy()
    other.masks[0, 0] = False
    assert agreement([one], [other], 0.0).mask == 0.25


# -----whole models-----
@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('parity')
    write_dataset(folder / 'data')
    return folder


@pytest.fixture(scope='module')
def cfg(folder):
    return tiny_config(folder / 'data', model__test_cfg__rcnn__score_thr=1e-3)


def test_two_models_over_a_data_set(cfg, folder):
    images = test_images(cfg)
    torch.manual_seed(0)
    model = init_detector(cfg, device='cpu', palette='none')
    exported = Detector(write_model(folder / 'stand-in.onnx'))
    finders = dict(
        torch=torch_finder(model), same=torch_finder(model), onnx=exported_finder(exported)
    )
    found, seconds = find_all(finders, images)
    assert {len(each) for each in (*found.values(), *seconds.values())} == {len(PICTURES)}
    same = agreement(found['torch'], found['same'], 0.0)
    assert same.pairs > 100 and same.within(box=0, score=0)
    assert not agreement(found['torch'], found['onnx'], 0.0).within()


def test_precision_of_perfect_and_of_blind_models(cfg):
    images = test_images(cfg)
    truth = []
    for boxes in PICTURES:
        xywh = np.array(boxes, float).reshape(-1, 5)
        truth.append(
            detections(
                np.c_[xywh[:, :2], xywh[:, :2] + xywh[:, 2:4]],
                np.ones(len(xywh)),
                xywh[:, 4].astype(int) - 1,
            )
        )
    blind = [detections([], []) for _ in PICTURES]
    assert average_precision(cfg, images, truth)['coco/bbox_mAP'] == 1
    with_one = [truth[0], *blind[1:]]
    some = average_precision(cfg, images, with_one)['coco/bbox_mAP']
    assert 0 < some < 1


def test_a_folder_of_images(cfg, folder):
    images = test_images(cfg, folder / 'data/images')
    samples = [item['data_samples'] for item in images]
    assert len(images) == len(samples) == len(PICTURES)
    assert samples[0].img_path.endswith('000.png')
