"""From image files to masks: an exported model without torch, and PyTorch."""

import numpy as np
import pytest
from PIL import Image

from mmdet_centernet2.deploy.parity import (
    agreement,
    exported_finder,
    find_all,
    test_images,
    torch_finder,
)
from mmdet_centernet2.runtime import Detector
from tests.test_deploy.exporting import make_images, set_resize, tiny_cfg

pytestmark = [pytest.mark.export, pytest.mark.slow]

SIZES = ((90, 140), (150, 80), (64, 64))  # height, width


@pytest.fixture(scope='module')
def case(exported, tmp_path_factory):
    """A small model with masks, its export and photographs."""
    folder = tmp_path_factory.mktemp('whole')
    model, path = exported('masks')
    set_resize(path, folder / 'small.onnx', scale=[120, 200])
    cfg = tiny_cfg('masks')
    for transform in cfg.test_dataloader.dataset.pipeline:
        if transform.type == 'Resize':
            transform.update(scale=(200, 120))
    photos = folder / 'photos'
    photos.mkdir()
    for index, size in enumerate(SIZES):
        pixels = make_images([size], seed=index).inputs[0].numpy()
        pixels = pixels[:, : size[0], : size[1]].transpose(1, 2, 0) * 60 + 120
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(photos / f'{index}.jpg')
    images = test_images(cfg, photos)
    detector = Detector(folder / 'small.onnx')
    found, _ = find_all(dict(torch=torch_finder(model), onnx=exported_finder(detector)), images)
    return detector, sorted(photos.iterdir()), found


def test_every_detection_is_the_same(case):
    _, _, found = case
    result = agreement(found['torch'], found['onnx'], 0.0)
    assert result.images == 3 and result.pairs > 30
    assert result.within(box=0.01, score=1e-4), result
    assert result.mask < 0.01


def test_masks_are_there_to_compare(case):
    _, _, found = case
    for size, one, other in zip(SIZES, found['torch'], found['onnx']):
        assert one.masks.shape == other.masks.shape == (len(one), *size)
        assert one.masks.any() and not one.masks.all()


def test_a_batch_of_all_sizes_finds_what_one_by_one_does(case):
    """Padding to the largest has an effect through the network's borders."""
    detector, photos, found = case
    together = detector([str(photo) for photo in photos])
    assert [len(each) > 0 for each in together] == [True] * 3
    for size, each in zip(SIZES, together):
        assert (each.bboxes[:, 2] <= size[1]).all()
        assert (each.bboxes[:, 3] <= size[0]).all()
        assert each.masks.shape[1:] == size
