"""The pipelines' resizing has the original's arithmetic and pixels."""
import numpy as np
import pytest
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.config import Config
from PIL import Image

from tests.paths import CONFIGS


@pytest.fixture(scope='module')
def pipelines():
    cfg = Config.fromfile(CONFIGS / '_base_/datasets/coco_ms.py')
    return cfg.train_pipeline, cfg.test_pipeline


def _build(pipeline):
    found = [t for t in pipeline if 'Resize' in t['type']]
    assert len(found) == 1
    return TRANSFORMS.build(found[0])


def _results(height, width):
    image = np.random.RandomState(0).randint(
        0, 256, (height, width, 3), dtype=np.uint8)
    boxes = np.array([[1., 2., width / 2, height / 2]], np.float32)
    return dict(
        img=image, img_shape=(height, width), gt_bboxes=HorizontalBoxes(boxes))


@pytest.mark.parametrize(
    'size, expected',
    [
        ((480, 640), (800, 1067)),  # spec §6.1
        ((427, 640), (800, 1199)),
        ((33, 86), (511, 1333)),  # mmcv's own rule: 512
        ((500, 500), (800, 800)),
    ])
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
    np.testing.assert_allclose(
        out['gt_bboxes'].tensor.numpy()[0], box, rtol=1e-5)


def test_every_training_length_is_drawn_and_no_other(pipelines):
    np.random.seed(0)
    resize = _build(pipelines[0])
    drawn = {resize(_results(50, 60))['img_shape'][0] for _ in range(60)}
    assert drawn == {640, 672, 704, 736, 768, 800}


def test_a_range_of_lengths_is_uniform_and_holds_both_ends():
    """A list of all integers is the original's sampling style 'range'."""
    resize = TRANSFORMS.build(
        dict(
            type='RandomChoiceResize',
            scales=list(range(480, 961)),
            resize_type='ResizeShortestEdge',
            max_size=1333,
            backend='pillow'))
    np.random.seed(0)
    drawn = np.array([resize._random_select()[0] for _ in range(48100)])
    counts = np.bincount(drawn - 480, minlength=481)
    assert len(counts) == 481 and drawn.min() == 480 and drawn.max() == 960
    # 100 expected of each; chi-square with 480 degrees of freedom
    chi2 = ((counts - 100)**2 / 100).sum()
    assert 480 - 4 * 31 < chi2 < 480 + 4 * 31
    results = resize(_results(500, 600))
    assert 480 <= min(results['img_shape']) <= 960
    assert results['img_shape'][0] in range(480, 961)
