"""Exported models without torch: the same steps as mmdet's, to the last bit.

The torch-free side is compared with mmdet's pipeline, preprocessor, mask
paste and with this package's ``rescale_and_clip``.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import mmcv
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import Compose
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from PIL import Image

from mmdet_centernet2.datasets.transforms.loading import CheckedLoadImageFromFile
from mmdet_centernet2.models.task_modules import rescale_and_clip
from mmdet_centernet2.runtime import (
    KEY,
    DeployedModelError,
    Detections,
    Detector,
    ImageError,
    ModelFileError,
    ModelInfo,
    ResizeInfo,
    demo,
)
from mmdet_centernet2.runtime.detections import finish, paste_masks
from mmdet_centernet2.runtime.drawing import class_colours, draw
from mmdet_centernet2.runtime.images import ENDINGS, read_image
from mmdet_centernet2.runtime.preprocess import prepare, resized_size, to_batch
from tests.paths import ROOT
from tests.test_deploy.stand_in import FIXED_BOX, INFO, write_model

pytestmark = pytest.mark.export

DEMO = ROOT / 'tools/image_demo.py'


def picture(height, width, seed=0):
    """Smooth colours with some noise: resizing them wrongly shows."""
    random = np.random.RandomState(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(rows / 7 + columns / (9 + c)) for c in range(3)]
    noisy = np.stack(waves, -1) + random.randint(-20, 20, (height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def info_of(**changes):
    return ModelInfo.from_metadata({KEY: json.dumps({**INFO, **changes})}, '')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp('model') / 'model.onnx')


@pytest.fixture(scope='module')
def detector(model):
    return Detector(model)


# -----the steps before the network-----
SIDES = st.integers(16, 200)
RESIZES = [
    (dict(scale=[96, 64], keep_ratio=True), dict(type='Resize', scale=(96, 64), keep_ratio=True)),
    (dict(scale=[90, 70], keep_ratio=False), dict(type='Resize', scale=(90, 70), keep_ratio=False)),
    (
        dict(scale=[64, 100], short_side=True, backend='pillow'),
        dict(type='ResizeShortestEdge', scale=64, max_size=100, backend='pillow'),
    ),
    (dict(scale=[64, 0], short_side=True), dict(type='ResizeShortestEdge', scale=64)),
    (
        dict(scale=[64, 100], short_side=True),
        dict(type='Resize', _scope_='mmdet_centernet2', scale=(100, 64), keep_ratio=True),
    ),
    (
        dict(scale=[100, 100], keep_ratio=True, round_down=True),
        dict(
            type='Resize',
            _scope_='mmdet_centernet2',
            scale=(100, 100),
            keep_ratio=True,
            rounding='down',
        ),
    ),
]


def mmdet_input(image, resize, info):
    """What mmdet's pipeline and preprocessor make of an image."""
    pipeline = Compose(
        [
            dict(type='mmdet.LoadImageFromNDArray'),
            dict(dict(_scope_='mmdet'), **resize),
            dict(type='mmdet.PackDetInputs', meta_keys=('img_shape', 'ori_shape', 'scale_factor')),
        ]
    )
    packed = pipeline(dict(img=image))
    preprocessor = DetDataPreprocessor(
        mean=info.mean, std=info.std, bgr_to_rgb=True, pad_size_divisor=32, pad_value=1.5
    )
    return preprocessor(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))


@pytest.mark.parametrize('ours, theirs', RESIZES)
@settings(max_examples=15, deadline=None)
@given(height=SIDES, width=SIDES)
def test_input_is_that_of_mmdet(ours, theirs, height, width):
    image = picture(height, width)
    info = info_of(resize=ours, pad_value=1.5)
    expected = mmdet_input(image, theirs, info)
    prepared = prepare(image, info)
    batch, sizes = to_batch([prepared], info)
    assert np.array_equal(batch, expected['inputs'].numpy())
    meta = expected['data_samples'][0].metainfo
    assert tuple(sizes[0]) == meta['img_shape'] == prepared.size
    assert prepared.original_size == meta['ori_shape']
    assert prepared.scale_factor == meta['scale_factor']


@pytest.mark.parametrize('size', [(1, 5000), (5000, 1)])
@pytest.mark.parametrize('ours, theirs', [each for each in RESIZES if each[0]['scale'][1]])
def test_no_side_of_a_long_image_is_lost(ours, theirs, size):
    """mmdet's own transforms fail on these; the package's ``Resize`` does not."""
    info = info_of(resize=ours, pad_value=1.5)
    prepared = prepare(picture(*size), info)
    assert 1 <= min(prepared.size) and max(prepared.size) <= 100
    if '_scope_' in theirs:
        expected = mmdet_input(picture(*size), theirs, info)['inputs'].numpy()
        assert np.array_equal(to_batch([prepared], info)[0], expected)


def test_an_image_that_would_fill_the_memory_is_refused():
    with pytest.raises(ImageError, match='5000x1 pixels would be resized to 320000x64'):
        prepare(picture(1, 5000), info_of(resize=dict(scale=[64, 0], short_side=True)))


def test_batch_of_two_sizes_is_that_of_mmdet():
    images = [picture(50, 80), picture(90, 40, seed=1)]
    info = info_of(bgr_to_rgb=False, mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0])
    prepared = [prepare(image, info) for image in images]
    batch, sizes = to_batch(prepared, info)
    small = [mmcv.imrescale(image, (96, 64)) for image in images]
    expected = DetDataPreprocessor([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], 32)(
        dict(inputs=[torch.from_numpy(i.transpose(2, 0, 1)) for i in small], data_samples=None)
    )
    assert np.array_equal(batch, expected['inputs'].numpy())
    assert sizes.tolist() == [list(i.shape[:2]) for i in small]


@pytest.mark.parametrize('size', [(4000, 3000), (33, 640), (640, 480)])
def test_a_model_of_fixed_shape_gets_images_that_fit(size):
    resized = resized_size(size, ResizeInfo((96, 64)), limit=(80, 48))
    assert resized[0] <= 80 and resized[1] <= 48
    assert resized[0] == 80 or resized[1] == 48
    assert resized[0] / resized[1] == pytest.approx(size[0] / size[1], rel=2 / min(resized))


@pytest.mark.parametrize('decoder', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'kind', 'RGB.jpg L.jpg LA.png RGBA.png P.png 1.png CMYK.jpg CMYK.tif'.split()
)
def test_decoding_is_that_of_mmcv(decoder, kind, tmp_path):
    path, mode = tmp_path / kind, kind.split('.')[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(picture(40, 60)).convert(mode).save(path, exif=exif)
    pixels = read_image(path, decoder)
    assert np.array_equal(pixels, mmcv.imread(str(path), backend=decoder))
    assert pixels.shape == (60, 40, 3)


SIXTEEN_BITS = np.random.RandomState(0).randint(0, 2**16, (40, 60, 3))


@pytest.mark.parametrize('decoder', ['cv2', 'pillow'])
@pytest.mark.parametrize(
    'mode, ending', [('I;16', 'png'), ('I;16', 'tif'), ('I;16B', 'tif'), ('RGB', 'png')]
)
def test_of_16_bits_the_upper_8_are_taken(decoder, mode, ending, tmp_path):
    path = tmp_path / f'image.{ending}'
    if mode == 'RGB':
        cv2.imwrite(str(path), SIXTEEN_BITS.astype(np.uint16))
        expected = SIXTEEN_BITS
    else:
        grey = SIXTEEN_BITS[..., 0].astype('>u2' if mode[-1] == 'B' else '<u2')
        Image.frombytes(mode, (60, 40), grey.tobytes()).save(path)
        expected = grey[..., None].repeat(3, 2)
    pixels = read_image(path, decoder)
    assert np.array_equal(pixels, expected >> 8)
    trained_on = CheckedLoadImageFromFile(imdecode_backend=decoder)(dict(img_path=str(path)))['img']
    assert np.array_equal(pixels, trained_on)


@pytest.mark.parametrize('decoder', ['cv2', 'pillow'])
def test_wider_pixels_are_refused(decoder, tmp_path):
    path, grey = tmp_path / 'wide.tif', SIXTEEN_BITS[..., 0]
    for dtype, mode in ((np.int32, "mode 'I'"), (np.float32, "mode 'F'")):
        Image.fromarray(grey.astype(dtype)).save(path)
        with pytest.raises(ImageError, match=f'wide.tif .*{mode}'):
            read_image(path, decoder)
    cv2.imwrite(str(path), SIXTEEN_BITS.astype(np.float32))  # Pillow does not know it
    with pytest.raises(ImageError, match='wide.tif .*float32'):
        read_image(path, decoder)


# -----the steps after it-----
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), height=st.integers(20, 300), width=st.integers(20, 300))
def test_last_steps_are_those_of_the_models(seed, height, width):
    random = np.random.RandomState(seed)
    shape = (64, 96)
    corners = random.uniform(-20, 110, (30, 2, 2)).astype(np.float32)
    boxes = np.sort(corners, 1).reshape(30, 4)
    boxes[::7, 2] = boxes[::7, 0]  # empty ones
    scores = random.rand(30).astype(np.float32) * 0.9 + 0.1
    labels = random.randint(0, 2, 30)
    meta = dict(
        img_shape=shape,
        ori_shape=(height, width),
        scale_factor=(shape[1] / width, shape[0] / height),
    )
    expected = rescale_and_clip(
        InstanceData(
            bboxes=torch.from_numpy(boxes.copy()),
            scores=torch.from_numpy(scores),
            labels=torch.from_numpy(labels),
        ),
        meta,
        rescale=True,
    )
    found = finish(np.c_[boxes, scores], labels, None, meta['ori_shape'], meta['scale_factor'], 0.5)
    assert np.array_equal(found.bboxes, expected.bboxes.numpy())
    assert np.array_equal(found.scores, expected.scores.numpy())
    assert np.array_equal(found.labels, expected.labels.numpy())
    assert 0 < len(found) < 30


def test_masks_are_pasted_as_in_mmdet():
    random = np.random.RandomState(0)
    height, width = 70, 90
    corners = random.uniform((0, 0), (40, 30), (20, 2))
    boxes = np.c_[corners, corners + random.uniform(5, 40, (20, 2))]
    boxes = boxes.astype(np.float32)
    logits = cv2.GaussianBlur(random.randn(28, 28, 20), (7, 7), 3) * 30
    logits = torch.from_numpy(logits.transpose(2, 0, 1)).float()
    head = FCNMaskHead(
        num_convs=0, in_channels=1, conv_out_channels=1, num_classes=1, class_agnostic=True
    )
    expected = head._predict_by_feat_single(
        logits[:, None],
        torch.from_numpy(boxes.copy()),
        torch.zeros(20).long(),
        dict(scale_factor=(1.0, 1.0), ori_shape=(height, width)),
        ConfigDict(mask_thr_binary=0.5),
        rescale=True,
    ).numpy()
    pasted = paste_masks(logits.sigmoid().numpy(), boxes, (height, width), 0.5)
    assert 0.01 < expected.mean() < 0.5
    assert expected.any((1, 2)).sum() >= 15
    # at the threshold itself, the last bit decides
    assert (pasted != expected).sum() <= 1e-4 * expected.sum()


# -----the detector-----
def test_detections_are_in_pixels_of_the_image(detector):
    found = detector(picture(100, 300))  # resized to 96 x 32
    assert len(found) == 2  # of four: one is outside, one fills up
    assert found.bboxes[0].tolist() == [0, 0, 300, 100]
    expected = np.array(FIXED_BOX).clip(max=96) * 300 / 96
    expected[[1, 3]] = np.array(FIXED_BOX)[[1, 3]].clip(max=32) * 100 / 32
    assert found.bboxes[1] == pytest.approx(expected, rel=1e-6)
    assert found.labels.tolist() == [0, 1]
    assert found.scores[0] == pytest.approx(0.9)


def test_score_comes_from_the_pixels(detector):
    bright, dark = (detector(np.full((64, 96, 3), v, np.uint8)).scores[1] for v in (250, 0))
    assert bright > 0.6 and dark == pytest.approx(0.5)


@pytest.mark.parametrize('shape', [('batch', 3, 'height', 'width'), (2, 3, 64, 96)])
def test_batch_equals_one_by_one(shape, tmp_path):
    """One of a fixed size is filled up."""
    detector = Detector(write_model(tmp_path / 'model.onnx', shape=shape))
    images = [picture(60, 90, seed) for seed in range(3)]
    for image, found in zip(images, detector(images)):
        alone = detector(image)
        assert found.bboxes[0].tolist() == [0, 0, 90, 60]
        assert np.array_equal(alone.bboxes, found.bboxes)
        assert alone.scores == pytest.approx(found.scores, abs=1e-6)


def test_no_images_and_long_ones(detector):
    assert detector([]) == []
    for size in ((1, 5000), (5000, 1)):
        assert detector(picture(*size)).bboxes[0].tolist() == [0, 0, size[1], size[0]]


def test_eight_threads_share_a_detector(detector):
    """400 calls, twice, give what one thread gives, and no more memory."""
    sizes = [(40 + 13 * i, 200 - 17 * i) for i in range(8)]
    images = [picture(*size, seed) for seed, size in enumerate(sizes)]
    expected = [detector(image) for image in images]
    peaks = []
    for _ in range(2):
        with ThreadPoolExecutor(8) as pool:
            for i, found in enumerate(pool.map(detector, images * 50)):
                for key in ('bboxes', 'scores', 'labels'):
                    assert np.array_equal(getattr(found, key), getattr(expected[i % 8], key))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    assert peaks[1] - peaks[0] < 20_000  # kilobytes


def test_masks_cover_half_of_each_box(tmp_path):
    path = write_model(tmp_path / 'masks.onnx', {**INFO, 'task': 'mask'}, masks=True)
    found = Detector(path)(picture(64, 96))
    assert found.masks.shape == (2, 64, 96)
    # corners fade: around a mask there are zeros
    assert found.masks[0, 1:-1, 1:47].all()
    assert not found.masks[0, :, 49:].any()
    assert found.masks[1].sum() == pytest.approx(32 * 16, rel=0.05)
    assert len(found.as_dict()['masks']) == 2


@pytest.mark.parametrize('ending', ['onnx', 'xml'])
def test_openvino_gives_the_same(model, detector, ending, tmp_path):
    path = model
    if ending == 'xml':
        import openvino

        path = tmp_path / 'model.xml'
        openvino.save_model(openvino.Core().read_model(model), path, compress_to_fp16=False)
    image = picture(100, 300)
    found, expected = Detector(path, 'openvino')(image), detector(image)
    assert found.bboxes == pytest.approx(expected.bboxes, abs=1e-4)
    assert found.scores == pytest.approx(expected.scores, abs=1e-5)
    assert found.labels.tolist() == expected.labels.tolist()


# -----pictures-----
def test_boxes_are_drawn_in_the_colour_of_their_class(detector):
    found = Detections(
        np.array([[20, 30, 80, 90.0], [5, 5, 15, 15.0]]), np.array([0.8, 0.2]), np.array([1, 0])
    )
    image = np.zeros((100, 120, 3), np.uint8)
    drawn = draw(image, found, detector.info)
    green = np.array([0, 255, 0]) * 0.8
    assert drawn[60, 21] == pytest.approx(green, abs=1)
    assert (drawn[5:16, 5:16] == 0).all()  # below the threshold
    assert (drawn[30:, :, 1] > 0).any(1).sum() == 61  # rows 30 to 90
    assert not image.any()


def test_captions_cover_no_small_object(detector):
    """Crowded ones, and one in each corner."""
    corners = np.array(
        [(x, y) for y in range(60, 200, 40) for x in range(60, 260, 60)]
        + [(0, 0), (308, 0), (0, 228), (308, 228)]
    )
    boxes = np.hstack([corners, corners + 11]).astype(float)
    found = Detections(boxes, np.full(len(boxes), 0.5), np.arange(len(boxes)) % 2)
    grey = np.full((240, 320, 3), 90, np.uint8)
    drawn = draw(grey, found, detector.info)
    for x, y in corners:
        assert (drawn[y + 3 : y + 9, x + 3 : x + 9] == 90).all()
    assert (drawn < 30).all(2).sum() > 100 * len(boxes)  # behind the texts


def test_classes_without_colours_get_some():
    colours = class_colours(info_of(palette=None, classes=['c'] * 50))
    assert len(set(colours)) > 45
    steps = np.abs(np.diff(np.array(colours), axis=0)).sum(1)
    assert steps.min() > 100
    assert colours == class_colours(info_of(palette=None, classes=['c'] * 50))


# -----what can go wrong-----
def refusal(*args, **kwargs):
    with pytest.raises(DeployedModelError) as error:
        Detector(*args, **kwargs)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_files_that_are_no_model(tmp_path):
    assert 'does not exist' in refusal(tmp_path / 'none.onnx')
    text = tmp_path / 'text.onnx'
    text.write_text('not a model')
    for backend in ('onnxruntime', 'openvino'):
        said = refusal(text, backend)
        assert 'text.onnx (11 bytes) is not a model' in said
    assert "no backend 'tvm'" in refusal(text, 'tvm')


def test_metadata_that_cannot_be_used(tmp_path):
    path = tmp_path / 'model.onnx'
    assert 'has no metadata' in refusal(write_model(path, None))
    assert 'newer' in refusal(write_model(path, {**INFO, 'schema': 9}))
    assert "'classes'" in refusal(write_model(path, {'schema': 1}))
    said = refusal(write_model(path, {**INFO, 'image_size_input': False}))
    assert 'takes image_sizes, input' in said
    assert 'masks' in refusal(write_model(path, {**INFO, 'task': 'mask'}))
    few = Detector(write_model(path, {**INFO, 'classes': ['light']}))
    with pytest.raises(ModelFileError, match='finds class 1, but its metadata name 1 classes'):
        few(picture(64, 96))


RESIZE = INFO['resize']
DAMAGED = [
    *(dict(schema=v) for v in ('1', None, 0, 1.5, True)),
    *(dict(classes=v) for v in ([], 'light', [1, 2])),
    *(dict(mean=v) for v in (['1', 2, 3], [10**400, 2, 3], None)),
    *(dict(std=v) for v in ([0, 1, 1], [1, 1])),
    *(dict(pad_divisor=v) for v in (0, 32.5)),
    *(dict(pad_value=v) for v in ('0', -(10**400), float('nan'))),
    *(dict(palette=v) for v in ([[0, 0, 0]], [[0, 0, 256]] * 2)),
    *(dict(decoder='x'), dict(task=['bbox']), dict(mask_thr=True), dict(bgr_to_rgb=1)),
    dict(resize=[96, 64]),
    *(
        dict(resize={**RESIZE, 'scale': v})
        for v in ([0, 64], [96, 0], [-9, 64], [1e9, 64], [10**400, 64], '96', [96])
    ),
    *(
        dict(resize={**RESIZE, 'backend': library, 'interpolation': name})
        for library, name in (('cv2', 'spline'), ('tf', 'bilinear'), ('cv2', 'hamming'))
    ),
]


@pytest.mark.parametrize('damage', DAMAGED, ids=str)
def test_damaged_metadata_are_named(damage):
    with pytest.raises(ModelFileError, match=f"'{next(iter(damage))}"):
        info_of(**damage)


def test_every_fault_is_named():
    faults = dict(pad_divisor=0, mean=['1', 2, 3], resize={**RESIZE, 'backend': 'tf'}, task=1)
    with pytest.raises(ModelFileError) as error:
        info_of(**faults)
    for name in ('pad_divisor', 'mean', 'resize.backend', 'task'):
        assert f"'{name}' is " in str(error.value)


@pytest.mark.parametrize('text', ['', '[]', '7', '{', '[' * 10**5, '{"a":' * 10**5])
def test_metadata_that_are_no_object(text):
    with pytest.raises(ModelFileError, match='cannot be used'):
        ModelInfo.from_metadata({KEY: text}, 'model.onnx')


def test_a_device_that_is_not_there(model):
    assert 'onnxruntime-gpu' in refusal(model, device='cuda:0')
    assert 'no device' in refusal(model, device='tpu')


@pytest.mark.parametrize('threads', [0, -1, 10_000, True, '4'])
def test_threads_that_cannot_be_had(model, threads):
    assert f'threads is {threads!r}; give 1 to' in refusal(model, threads=threads)


def test_images_that_cannot_be_used(detector, tmp_path):
    with pytest.raises(ImageError, match='float64'):
        detector(np.zeros((5, 5, 3)))
    broken = tmp_path / 'broken.png'
    broken.write_bytes(b'\x89PNG')
    for decoder in ('cv2', 'pillow'):
        with pytest.raises(ImageError, match=r'broken.png \(4 bytes\)'):
            read_image(broken, decoder)


# -----the command line-----
@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for seed, name in enumerate(('b.png', 'a.JPG', 'c.jpeg')):
        Image.fromarray(picture(50, 70, seed)).save(folder / name)
    (folder / 'notes.txt').write_text('no image')
    return folder


@pytest.mark.parametrize('batch', [1, 2])
def test_demo_writes_what_mmdets_does(photos, model, tmp_path, batch, capsys):
    out = tmp_path / 'out'
    demo.main([str(photos), str(model), '--out-dir', str(out), '--batch-size', str(batch)])
    said = capsys.readouterr().out
    assert 'Images done: 3, see' in said and 'skipped' in said and 'notes.txt' in said
    assert sorted(p.name for p in (out / 'vis').iterdir()) == ['a.JPG', 'b.png', 'c.jpeg']
    result = json.loads((out / 'preds/b.json').read_text())
    assert list(result) == ['labels', 'scores', 'bboxes', 'label_names']
    assert result['label_names'] == ['light', 'dark']
    assert result['bboxes'][0] == [0, 0, 70, 50] and len(result['labels']) == 2
    drawn = cv2.imread(str(out / 'vis/b.png'))
    assert drawn.shape == (50, 70, 3)
    assert (drawn != cv2.imread(str(photos / 'b.png'))).any()


def test_demo_writes_only_what_is_wanted(photos, model, tmp_path, capsys):
    out = tmp_path / 'out'
    options = '--no-save-vis', '--no-save-pred', '--print-result'
    demo.main([str(photos / 'b.png'), str(model), '--out-dir', str(out), *options])
    assert not out.exists()
    assert '"labels": [0, 1]' in capsys.readouterr().out


def test_demo_names_a_broken_image_and_keeps_the_rest(photos, model, tmp_path, capsys):
    (photos / 'b.png').write_bytes(b'')
    with pytest.raises(SystemExit) as end:
        demo.main([str(photos), str(model), '--out-dir', str(tmp_path / 'o'), '--batch-size', '4'])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert 'b.png is empty' in said and 'before it are done, see' in said
    assert [p.name for p in (tmp_path / 'o/vis').iterdir()] == ['a.JPG']


def test_demo_says_that_nothing_is_above_the_threshold(photos, model, tmp_path, capsys):
    call = [str(photos), str(model), '--no-save-vis', '--no-save-pred', '--pred-score-thr']
    demo.main([*call, '0.95'])
    assert (
        'No box above 0.95 in 3 of 3 images; the best score there is 0.9000: lower --pred-score-thr'
    ) in capsys.readouterr().out
    demo.main([*call, '0.8'])
    assert 'No box' not in capsys.readouterr().out


@pytest.mark.parametrize(
    'inputs, reason',
    [
        ('nowhere', 'does not exist'),
        ('.', 'holds no image'),
        ('street.MP4', 'street.MP4 cannot be decoded by OpenCV'),
    ],
)
def test_demo_refuses(inputs, reason, model, tmp_path, capsys):
    (tmp_path / 'street.MP4').write_bytes(b'0' * 99)
    with pytest.raises(SystemExit) as end:
        demo.main([str(tmp_path / inputs), str(model)])
    assert end.value.code == 2 and reason in capsys.readouterr().err


def test_images_of_one_name_keep_their_results(photos, model, tmp_path):
    """In one folder and in two; one that is given twice is done once."""
    Image.fromarray(picture(50, 70, 9)).save(photos / 'b.jpg')
    other = tmp_path / 'other'
    shutil.copytree(photos, other)
    out = tmp_path / 'out'
    demo.main([str(photos), str(model), '--out-dir', str(out), '--no-save-vis'])
    names = sorted(path.name for path in (out / 'preds').iterdir())
    assert names == ['a.json', 'b.jpg.json', 'b.png.json', 'c.json']
    args = demo.build_parser().parse_args(['', str(model), '--out-dir', str(out / 'two')])
    demo.run(args, [str(photos), str(photos / 'b.jpg'), str(other / 'b.jpg')])
    assert len(list((out / 'two/preds').iterdir())) == len(list((out / 'two/vis').iterdir())) == 5
    demo.run(args, [str(photos), str(other)])
    for folder in ('vis', 'preds'):
        names = {path.name for path in (out / 'two' / folder).iterdir()}
        for name in ('photos_b.png', 'other_b.png', 'photos_a.JPG', 'other_a.JPG'):
            assert any(each.removesuffix('.json').endswith(name) for each in names)


@pytest.mark.parametrize('ending', ENDINGS)
def test_pictures_of_every_format(ending, model, tmp_path):
    """OpenCV writes a grey format as an empty file, if at all."""
    Image.fromarray(picture(50, 70)).convert('L').save(tmp_path / f'a{ending}')
    demo.main([str(tmp_path / f'a{ending}'), str(model), '--out-dir', str(tmp_path / 'out')])
    (path,) = (tmp_path / 'out/vis').iterdir()
    assert path.name == f'a{ending}' + '.png' * (ending == '.pgm')
    assert read_image(path).shape == (50, 70, 3)


# -----without torch-----
WATCHED = """
import runpy, sys
blocked, sys.argv = sys.argv[1], sys.argv[2:]
for name in filter(None, blocked.split(',')):
    sys.modules[name] = None  # an import of it fails
runpy.run_path(sys.argv[0], run_name='__main__')
print('LOADED', *sorted({name.split('.')[0] for name, module
                         in sys.modules.items() if module is not None}))
print('RUNTIME', sys.modules['mmdet_centernet2_runtime'].__file__)
"""


def run_demo(program, *arguments, blocked='', path=ROOT, cwd=ROOT):
    """Run the demo in a process of its own; what it loaded, and from where."""
    done = subprocess.run(
        [sys.executable, '-c', WATCHED, blocked, str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, 'PYTHONPATH': str(path)},
    )
    assert done.returncode == 0, done.stderr
    lines = dict(
        line.split(' ', 1)
        for line in done.stdout.splitlines()
        if line.startswith(('LOADED', 'RUNTIME'))
    )
    return set(lines['LOADED'].split()), lines['RUNTIME']


def test_demo_does_not_import_torch(photos, model, tmp_path):
    loaded, source = run_demo(
        DEMO, photos, model, '--backend', 'onnxruntime', '--out-dir', tmp_path
    )
    assert 'onnxruntime' in loaded
    assert not loaded & {'torch', 'mmdet', 'mmengine', 'mmcv', 'mmdeploy', 'mmdet_centernet2'}
    assert source.startswith(str(ROOT))
    assert len(list((tmp_path / 'preds').iterdir())) == 3


def test_a_video_does_not_take_torch(model, tmp_path):
    video = tmp_path / 'street.avi'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for number in range(3):
        writer.write(picture(48, 64, number))
    writer.release()
    loaded, _ = run_demo(DEMO, video, model, '--out-dir', tmp_path, '--batch-size', '2')
    assert not loaded & {'torch', 'mmdet', 'mmengine', 'mmcv', 'mmdeploy', 'mmdet_centernet2'}
    found = json.loads((tmp_path / 'preds/street.json').read_text())
    assert len(found['frames']) == 3 and all(each['scores'] for each in found['frames'])
    drawn = cv2.VideoCapture(str(tmp_path / 'vis/street.mp4'))
    assert [drawn.read()[0] for _ in range(4)] == [True, True, True, False]


def test_demo_runs_where_torch_cannot_be_imported(photos, model, tmp_path):
    """From a copy of an installed package, far from the clone."""
    package = tmp_path / 'site/mmdet_centernet2'
    shutil.copytree(ROOT / 'mmdet_centernet2/runtime', package / 'runtime')
    (package / '__init__.py').write_text('import torch')
    tool = package / '.mim/tools/image_demo.py'
    tool.parent.mkdir(parents=True)
    shutil.copy(DEMO, tool)
    _, source = run_demo(
        tool,
        photos,
        model,
        '--out-dir',
        tmp_path / 'out',
        cwd=tmp_path,
        blocked='torch,mmdet,mmengine,mmcv,pycocotools',
        path=tmp_path / 'site',
    )
    assert source.startswith(str(package))
    assert len(list((tmp_path / 'out/vis').iterdir())) == 3
