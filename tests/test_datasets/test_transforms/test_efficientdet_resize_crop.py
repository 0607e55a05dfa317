"""Resize-and-crop has the original's arithmetic, draws and pixels."""

import numpy as np
import pytest
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.dataset import Compose
from PIL import Image

from mmdet_centernet2.datasets.transforms.efficientdet_resize_crop import plan_resize_crop


def _build(size=640, **kwargs):
    return TRANSFORMS.build(dict(type='EfficientDetResizeCrop', size=size, **kwargs))


def _results(height, width, boxes=(), **fields):
    image = np.random.RandomState(7).randint(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return dict(img=image, img_shape=(height, width), gt_bboxes=HorizontalBoxes(boxes), **fields)


def _by_hand(image, size, seed, interpolation, scale_range=(0.1, 2.0)):
    """The original's transform, step by step, with pillow alone.

    That is: resize everything, then crop.
    """
    random = np.random.RandomState(seed)
    side = random.uniform(*scale_range) * size
    height, width = image.shape[:2]
    scale = min(side / height, side / width)
    scaled_h, scaled_w = int(height * scale), int(width * scale)
    top = int(max(0, scaled_h - size) * random.uniform(0, 1))
    left = int(max(0, scaled_w - size) * random.uniform(0, 1))
    scaled = Image.fromarray(image).resize((scaled_w, scaled_h), interpolation)
    window = (left, top, min(scaled_w, left + size), min(scaled_h, top + size))
    return np.asarray(scaled.crop(window)), scale, (top, left)


def test_the_spec_s_example():
    np.random.seed(0)
    out = _build()(_results(480, 640, [(100, 50, 300, 400)]))
    assert out['img'].shape == (548, 640, 3)
    assert out['img_shape'] == (548, 640)
    np.testing.assert_allclose(
        out['gt_bboxes'].tensor.numpy()[0], [60.27457, 57.13728, 288.82370, 457.09826], atol=1e-4
    )
    assert out['scale_factor'] == (731 / 640, 548 / 480)


@pytest.mark.parametrize(
    'seed, scaled, offset',
    [(0, (548, 731), (0, 54)), (1, (428, 571), (0, 0)), (2, (445, 594), (0, 0))],
)
def test_the_spec_s_sizes(seed, scaled, offset):
    np.random.seed(seed)
    factor, y, x = (np.random.uniform(0.1, 2), np.random.uniform(0, 1), np.random.uniform(0, 1))
    plan = plan_resize_crop((480, 640), 640, factor, (y, x))
    assert (plan.scaled_size, plan.offset) == (scaled, offset)
    if seed == 0:
        assert plan.img_scale == pytest.approx(1.1427457, abs=1e-7)


@pytest.mark.parametrize('backend, levels', [('pillow', 0), ('antialias', 1)])
@pytest.mark.parametrize('size', [(37, 91), (91, 37), (64, 64)])
@pytest.mark.parametrize('seed', range(4))
def test_pixels_masks_and_random_stream(size, seed, backend, levels):
    boxes = [(3, 4, 30, 31), (-5, 2, 500, 20)]
    masks = np.random.RandomState(3).randint(0, 2, (2, *size), np.uint8)
    results = _results(*size, boxes, gt_masks=BitmapMasks(masks, *size))
    image = results['img']
    np.random.seed(seed)
    out = _build(50, backend=backend)(results)

    expected, scale, (top, left) = _by_hand(image, 50, seed, Image.BILINEAR)
    np.testing.assert_allclose(out['img'].astype(int), expected, rtol=0, atol=levels)
    for got, mask in zip(out['gt_masks'].masks, masks):
        np.testing.assert_array_equal(got, _by_hand(mask, 50, seed, Image.NEAREST)[0])
    height, width = expected.shape[:2]
    assert (out['gt_masks'].height, out['gt_masks'].width) == (height, width)
    moved = np.array(boxes) * scale - (left, top, left, top)
    moved = moved.clip(0, (width, height, width, height))
    np.testing.assert_allclose(out['gt_bboxes'].tensor.numpy(), moved, atol=1e-4)

    # exactly three numbers were drawn, so that the flip after it fits too
    random = np.random.RandomState(seed)
    random.uniform(size=3)
    assert np.random.uniform() == random.uniform()


def test_every_offset_is_reached_and_stays_inside():
    drawn = set()
    for where in np.linspace(0, 1, 50, endpoint=False):
        plan = plan_resize_crop((30, 20), 20, 1.5, (where, where))
        assert plan.scaled_size == (30, 20)
        assert plan.crop_size == (20, 20)
        drawn.add(plan.offset)
    assert drawn == {(top, 0) for top in range(10)}


def test_polygons_follow_the_boxes_without_clipping():
    polygon = np.array([100.0, 50.0, 300.0, 50.0, 300.0, 400.0, 100.0, 400.0])
    results = _results(480, 640)
    results['gt_masks'] = PolygonMasks([[polygon]], 480, 640)
    np.random.seed(0)
    masks = _build()(results)['gt_masks']
    assert (masks.height, masks.width) == (548, 640)
    left, top, right, bottom = 60.27457, 57.13728, 288.82370, 457.09826
    np.testing.assert_allclose(
        masks.masks[0][0], [left, top, right, top, right, bottom, left, bottom], atol=1e-4
    )


def test_nothing_is_resized_to_no_pixels():
    # the original fails here
    out = _build(64, scale_range=(0.1, 0.1))(_results(2, 500))
    assert out['img'].shape == (1, 6, 3)


@pytest.mark.parametrize(
    'size, expected',
    [
        ((480, 640), (1170, 1560)),
        ((640, 480), (1560, 1170)),
        ((427, 640), (1040, 1560)),
        ((500, 375), (1560, 1170)),
    ],
)
def test_square_test_resizing(size, expected):
    out = _build(1560, scale_range=(1, 1))(_results(*size))
    assert out['img_shape'] == expected
    np.testing.assert_allclose(np.array(out['scale_factor']) * size[::-1], expected[::-1])


def test_draws_can_be_shared():
    transform = _build(40)
    with cache_random_params(transform):
        shapes = {transform(_results(70, 90))['img_shape'] for _ in range(8)}
    assert len(shapes) == 1
    assert len({transform(_results(70, 90))['img_shape'] for _ in range(8)}) > 1


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(size=0), 'size must be a positive integer'),
        (dict(size=640.0), 'size must be a positive integer'),
        (dict(size=640, scale_range=(0, 1)), 'scale_range'),
        (dict(size=640, scale_range=(2, 1)), 'scale_range'),
        (dict(size=640, backend='turbo'), 'backend must be one of'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        _build(**kwargs)


def _instance(bbox, segmentation, crowd=0):
    return dict(bbox=bbox, bbox_label=0, ignore_flag=crowd, mask=segmentation)


def test_in_a_pipeline_with_masks(tmp_path):
    """What lies outside the window goes, slivers stay, images stay."""
    path = tmp_path / 'image.png'
    Image.new('RGB', (40, 100)).save(path)

    def square(left, top, right, bottom):
        return [[left, top, right, top, right, bottom, left, bottom]]

    random = np.random.RandomState(16)
    top = plan_resize_crop((100, 40), 50, 2, random.uniform(size=3)[1:])
    top = top.offset[0]  # of a window of 50 rows
    inside, sliver, outside = (
        (0, top + 5, 20, top + 45),
        (0, top + 49, 30, top + 60),
        (5, top + 50, 30, top + 60),
    )
    pipeline = Compose(
        [
            dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(type='EfficientDetResizeCrop', size=50, scale_range=(2, 2)),
            dict(type='RandomFlip', prob=0.5),
            dict(
                type='FilterAnnotations',
                min_gt_bbox_wh=(1e-5, 1e-5),
                by_mask=True,
                keep_empty=False,
            ),
            dict(type='PackDetInputs'),
        ]
    )

    def run(instances):
        np.random.seed(16)
        return pipeline(
            dict(
                img_path=str(path),
                img_id=1,
                instances=[_instance(box, square(*box)) for box in instances],
            )
        )

    sample = run([inside, sliver, outside])['data_samples']
    assert sample.img_shape == (50, 40)
    boxes = sample.gt_instances.bboxes.tensor
    assert boxes[:, 1::2].tolist() == [[5, 45], [49, 50]]
    assert [m.sum() for m in sample.gt_instances.masks.masks] == [800, 30]
    empty = run([outside])['data_samples']
    assert len(empty.gt_instances.bboxes) == 0


def test_in_a_test_pipeline_boxes_come_back_to_the_image(tmp_path):
    path = tmp_path / 'image.png'
    Image.new('RGB', (640, 427)).save(path)
    pipeline = Compose(
        [
            dict(type='LoadImageFromFile', imdecode_backend='pillow'),
            dict(type='EfficientDetResizeCrop', size=1560, scale_range=(1, 1)),
            dict(type='PackDetInputs', meta_keys=('ori_shape', 'img_shape', 'scale_factor')),
        ]
    )
    sample = pipeline(dict(img_path=str(path)))['data_samples']
    # the whole scaled image is the whole image, as in detectron2
    height, width = sample.img_shape
    np.testing.assert_allclose(
        (width / sample.scale_factor[0], height / sample.scale_factor[1]), (640, 427)
    )
    assert sample.ori_shape == (427, 640)
