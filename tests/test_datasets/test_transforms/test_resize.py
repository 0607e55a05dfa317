"""The pipelines' resizing has the original's arithmetic and pixels."""

import numpy as np
import pytest
import torch
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from PIL import Image

from mmdet_centernet2.datasets.transforms import Resize
from tests.paths import CONFIGS

OURS = dict(type='Resize', _scope_='mmdet_centernet2', keep_ratio=True, backend='pillow')


@pytest.fixture(scope='module')
def pipelines():
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/coco_ms.py')
    return cfg.train_pipeline, cfg.test_pipeline


def _build(pipeline):
    found = [t for t in pipeline if 'Resize' in t['type']]
    assert len(found) == 1
    return TRANSFORMS.build(found[0])


def _results(height, width):
    image = np.random.RandomState(0).randint(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = np.array([[1.0, 2.0, width / 2, height / 2]], np.float32)
    masks = np.zeros((1, height, width), np.uint8)
    masks[0, 2 : height // 2, 1 : width // 2] = 1
    return dict(
        img=image,
        img_shape=(height, width),
        gt_bboxes=HorizontalBoxes(boxes),
        gt_masks=BitmapMasks(masks, height, width),
    )


def _same(ours, theirs):
    """Whether two transforms left the same behind."""
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours.pop('gt_bboxes').tensor, theirs.pop('gt_bboxes').tensor)
    np.testing.assert_array_equal(ours.pop('gt_masks').masks, theirs.pop('gt_masks').masks)
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


@pytest.mark.parametrize(
    'size, expected',
    [
        ((480, 640), (800, 1067)),
        ((427, 640), (800, 1199)),
        ((33, 86), (511, 1333)),  # mmcv's own rule: 512
        ((500, 500), (800, 800)),
    ],
)
def test_test_size(pipelines, size, expected):
    results = _results(*size)
    image = results['img']
    out = _build(pipelines[1])(results)
    assert out['img'].shape[:2] == out['img_shape'] == expected
    height, width = expected
    pillow = Image.fromarray(image).resize((width, height), Image.BILINEAR)
    np.testing.assert_array_equal(out['img'], np.asarray(pillow))
    scale = np.array([width / size[1], height / size[0]])
    np.testing.assert_allclose(out['scale_factor'], scale, rtol=1e-6)
    box = np.array([1, 2, size[1] / 2, size[0] / 2]) * np.tile(scale, 2)
    np.testing.assert_allclose(out['gt_bboxes'].tensor.numpy()[0], box, rtol=1e-5)


@pytest.mark.parametrize('scale', [(1333, 800), (900, 608), (736, 512)])
def test_sizes_are_those_of_resize_shortest_edge(scale):
    """And not those of mmdet's ``Resize``, which some sizes show."""
    ours = TRANSFORMS.build(dict(OURS, scale=scale))
    shortest = TRANSFORMS.build(dict(type='ResizeShortestEdge', scale=scale[1], max_size=scale[0]))
    stock = TRANSFORMS.build(dict(type='Resize', scale=scale, keep_ratio=True))
    assert isinstance(ours, Resize) and not isinstance(stock, Resize)
    sizes = np.random.RandomState(0).randint(4, 2001, (20000, 2)).tolist()
    sizes += [[48, 992], [992, 48], [7, 7], [1333, 800]]
    others = 0
    for height, width in sizes:
        image = np.broadcast_to(np.uint8(0), (height, width, 3))
        wanted = shortest._get_output_shape(image, shortest.scale)
        assert ours._size(image) == wanted, (height, width)
        factor = min(
            scale[0] / max(height, width), scale[1] / min(height, width)
        )  # mmcv's rescale_size
        others += wanted != (int(width * factor + 0.5), int(height * factor + 0.5))
    assert others > 0


@pytest.mark.parametrize('size', [(48, 992), (60, 45), (40, 40)])
def test_everything_is_that_of_resize_shortest_edge(size):
    ours = TRANSFORMS.build(dict(OURS, scale=(133, 80)))
    theirs = TRANSFORMS.build(
        dict(type='ResizeShortestEdge', scale=80, max_size=133, backend='pillow')
    )
    for _ in range(2):  # the transform keeps no trace of the first image
        _same(ours(_results(*size)), theirs(_results(*size)))
    assert ours.scale == (133, 80)


@pytest.mark.parametrize('size', [(427, 640), (640, 427), (97, 1231), (9, 9)])
def test_rounding_down_is_the_square_test_of_the_original(size):
    ours = TRANSFORMS.build(dict(OURS, scale=(156, 156), rounding='down'))
    theirs = TRANSFORMS.build(dict(type='EfficientDetResizeCrop', size=156, scale_range=(1, 1)))
    ours, theirs = ours(_results(*size)), theirs(_results(*size))
    assert ours['img_shape'] == theirs['img_shape']
    assert ours['scale_factor'] == theirs['scale_factor']
    np.testing.assert_array_equal(ours['img'], theirs['img'])


def test_a_square_scale_is_the_longest_edge():
    """What SAHI sets, ``scale=(size, size)``."""
    resize = TRANSFORMS.build(dict(OURS, scale=(64, 64)))
    assert resize(_results(30, 40))['img_shape'] == (48, 64)
    assert resize(_results(40, 30))['img_shape'] == (64, 48)


def test_a_strip_keeps_one_pixel():
    resize = TRANSFORMS.build(dict(OURS, scale=(64, 64)))
    assert resize(dict(img=np.zeros((1, 900, 3), np.uint8)))['img_shape'] == (1, 64)


@pytest.mark.parametrize(
    'options', [dict(scale=(50, 30), keep_ratio=False), dict(scale_factor=0.7, keep_ratio=True)]
)
def test_without_a_ratio_to_keep_it_is_mmdets(options):
    ours, theirs = (
        TRANSFORMS.build(dict(OURS, **options, _scope_=scope))
        for scope in ('mmdet_centernet2', 'mmdet')
    )
    _same(ours(_results(40, 61)), theirs(_results(40, 61)))


def test_unknown_rounding():
    with pytest.raises(ValueError, match="'nearest', 'down'"):
        TRANSFORMS.build(dict(OURS, scale=(9, 9), rounding='up'))
