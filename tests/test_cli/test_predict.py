"""``centernet2 predict`` on videos and in tiles, by mmdet and by onnxruntime."""

import json
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.logging import MMLogger
from onnx import TensorProto, helper, numpy_helper

from mmdet_centernet2.cli.main import main
from mmdet_centernet2.runtime import Detections, demo
from mmdet_centernet2.runtime.tiles import TiledDetector
from tests.paths import CONFIGS
from tests.test_deploy.stand_in import INFO, write_model

FPS, FRAMES, SIZE = 12.5, 7, (144, 96)


def read_video(path):
    capture, frames = cv2.VideoCapture(str(path)), []
    while (frame := capture.read()[1]) is not None:
        frames.append(frame)
    return frames, capture.get(cv2.CAP_PROP_FPS)


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """A white square that moves to the right."""
    path = tmp_path_factory.mktemp('video') / 'street.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), FPS, SIZE)
    for number in range(FRAMES):
        frame = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
        cv2.rectangle(frame, (10 + 10 * number, 30), (40 + 10 * number, 60), (255,) * 3, -1)
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    """Config and checkpoint of an untrained model, as words of the command."""
    folder = tmp_path_factory.mktemp('model')
    cfg = Config.fromfile(CONFIGS / 'centernet2/centernet2_mobilenet-v2_fpn_small.py')
    cfg.model.backbone.init_cfg = None
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (192, 128)
    cfg.dump(folder / 'config.py')
    torch.manual_seed(0)
    net = MODELS.build(cfg.model)
    MMLogger.get_instance('predict')  # that of an earlier run may have closed its file
    net.init_weights()
    for each in net.roi_head.bbox_head:  # without training, one class never wins
        torch.nn.init.normal_(each.fc_cls.weight, std=0.2)
    classes = tuple(f'class {i}' for i in range(80))
    torch.save(
        dict(state_dict=net.state_dict(), meta=dict(dataset_meta=dict(classes=classes))),
        folder / 'model.pth',
    )
    return [str(folder / 'config.py'), str(folder / 'model.pth')]


def predict(*words):
    main(['predict', *map(str, words), '--device', 'cpu'])


def test_a_video(video, model, tmp_path, capsys):
    """Each frame is detected in as if it were a picture."""
    frames, _ = read_video(video)
    picture = tmp_path / 'frame.png'
    cv2.imwrite(str(picture), frames[3])
    options = ['--out-dir', tmp_path, '--pred-score-thr', '0.2']
    predict(video, picture, *model, *options)
    said = capsys.readouterr()
    assert f'{video}: {FRAMES} frames are done, ' in said.out
    assert f'a second, see {tmp_path}' in said.out and f'{FRAMES}/{FRAMES}' in said.err
    drawn, fps = read_video(tmp_path / 'vis/street.mp4')
    assert fps == FPS and len(drawn) == FRAMES and drawn[0].shape == frames[0].shape
    found = json.loads((tmp_path / 'preds/street.json').read_text())
    assert found['fps'] == FPS and len(found['frames']) == FRAMES
    predict(picture, *model, '--out-dir', tmp_path / 'alone', '--pred-score-thr', '0.2')
    for folder in (tmp_path, tmp_path / 'alone'):
        alone = json.loads((folder / 'preds/frame.json').read_text())
        assert alone['labels'] == found['frames'][3]['labels'] and alone['labels']
        assert np.allclose(alone['bboxes'], found['frames'][3]['bboxes'], atol=1e-3)


def test_a_video_by_onnxruntime(video, tmp_path, capsys):
    model = write_model(tmp_path / 'model.onnx')
    predict(video, model, '--out-dir', tmp_path, '--pred-score-thr', '0.85')
    assert f'{FRAMES} frames are done' in capsys.readouterr().out
    (drawn, fps), (frames, _) = read_video(tmp_path / 'vis/street.mp4'), read_video(video)
    assert fps == FPS and len(drawn) == FRAMES
    change = np.abs(drawn[-1].astype(int) - frames[-1]).max(-1)
    # a red box around the whole frame, and nothing inside it but the name
    assert change[[0, -1]].mean() > 60 and change[30:-10, 30:-10].mean() < 5
    found = json.loads((tmp_path / 'preds/street.json').read_text())['frames']
    assert [each['label_names'][0] for each in found] == ['light'] * FRAMES


def test_options_of_the_demo(model, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 50, 3), np.uint8))
    for number, words in enumerate((model, [write_model(tmp_path / 'model.onnx')])):
        out = tmp_path / str(number)
        predict(tmp_path / 'a.png', *words, '--out-dir', out, '--no-save-vis', '--print-result')
        assert '"label_names"' in capsys.readouterr().out
        assert [path.name for path in out.rglob('*')] == ['preds', 'a.json']


def test_what_is_no_video(tmp_path, capsys):
    broken = tmp_path / 'broken.MP4'
    broken.write_bytes(b'\0' * 99)
    model = write_model(tmp_path / 'model.onnx')
    with pytest.raises(SystemExit):
        predict(broken, model)
    assert f'video {broken} cannot be decoded by OpenCV' in capsys.readouterr().err


def test_an_interrupted_video_is_kept(video, tmp_path, monkeypatch):
    model = write_model(tmp_path / 'model.onnx')
    calls = []

    def draw(*args):
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return args[0]

    monkeypatch.setattr(demo, 'draw', draw)
    with pytest.raises(KeyboardInterrupt):
        predict(video, model, '--out-dir', tmp_path)
    assert len(json.loads((tmp_path / 'preds/street.json').read_text())['frames']) == 3
    assert len(read_video(tmp_path / 'vis/street.mp4')[0]) == 3


# -----tiles-----
def write_spotter(path):
    """A model that boxes what is bright in its input, which has 64 x 64 pixels.

    A part of an object has a lower score than the whole.
    """
    make, constants = helper.make_node, {}

    def constant(name, values, kind=np.float32):
        constants[name] = numpy_helper.from_array(np.array(values, kind), name)
        return name

    nodes = [
        make('ReduceMax', ['input'], ['grey'], axes=[1], keepdims=0),
        make('Greater', ['grey', constant('threshold', 200)], ['is_bright']),
        make('Cast', ['is_bright'], ['bright'], to=TensorProto.FLOAT),
    ]
    for axis, name in ((1, 'x'), (2, 'y')):
        nodes.append(make('ReduceMax', ['bright'], [name], axes=[axis], keepdims=0))
        for last, end in ((0, 'low'), (1, 'high')):
            nodes += [
                make('ArgMax', [name], [name + end], axis=1, keepdims=1, select_last_index=last),
                make('Cast', [name + end], [f'{name}{last}'], to=TensorProto.FLOAT),
            ]
        nodes.append(make('Add', [f'{name}1', constant(f'one_{name}', 1)], [f'{name}2']))
    nodes += [
        make('ReduceMax', ['x'], ['found'], axes=[1], keepdims=1),
        make('ReduceMean', ['bright'], ['rows'], axes=[2], keepdims=0),
        make('ReduceMean', ['rows'], ['share'], axes=[1], keepdims=1),
        make('Add', ['share', constant('half', 0.5)], ['level']),
        make('Mul', ['found', 'level'], ['score']),
        make('Concat', ['x0', 'y0', 'x2', 'y2', 'score'], ['flat'], axis=1),
        make('Unsqueeze', ['flat', constant('middle', [1], np.int64)], ['dets']),
        make('Identity', [constant('label', [[0]], np.int64)], ['labels']),
    ]
    graph = helper.make_graph(
        nodes,
        'spotter',
        [helper.make_tensor_value_info('input', TensorProto.FLOAT, [1, 3, 64, 64])],
        [
            helper.make_tensor_value_info('dets', TensorProto.FLOAT, [1, 1, 5]),
            helper.make_tensor_value_info('labels', TensorProto.INT64, [1, 1]),
        ],
        list(constants.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 16)], ir_version=8)
    info = dict(INFO, resize=dict(scale=[64, 64]), mean=None, std=None, image_size_input=False)
    helper.set_model_props(model, dict(mmdet_centernet2=json.dumps(info)))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    'box',
    [
        (20, 30, 40, 45),  # in one tile
        (50, 70, 75, 90),  # on the border of two
        (55, 55, 74, 74),  # where four meet
    ],
)
def test_an_object_on_the_border_of_tiles_is_found_once(box, tmp_path):
    x1, y1, x2, y2 = box
    image = np.full((320, 480, 3), 60, np.uint8)
    image[y1:y2, x1:x2] = 255
    cv2.imwrite(str(tmp_path / 'large.png'), image)
    words = [tmp_path / 'large.png', write_spotter(tmp_path / 'model.onnx')]
    predict(*words, '--out-dir', tmp_path, '--tile', '64', '--overlap', '0.5')
    tiled = json.loads((tmp_path / 'preds/large.json').read_text())['bboxes']
    assert tiled == [list(box)]  # in a tile, not in the whole picture at a seventh of its size
    drawn = cv2.imread(str(tmp_path / 'vis/large.png'))
    assert (drawn != image).any(-1)[y1 - 4 : y2 + 4, x1 - 4 : x2 + 4].any()


def test_a_piece_does_not_take_the_place_of_the_whole():
    """Though the detector is surer of what the edge of a tile cuts."""
    image = np.zeros((128, 192, 3), np.uint8)
    image[50:90, 70:90] = 255

    def detect(images):
        (tile,) = images
        rows, columns = tile[..., 0].nonzero()
        if not len(rows) or tile.shape == image.shape:
            return [Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))]
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
        whole = (box[2:] - box[:2] == [20, 40]).all()
        return [Detections(box[None], np.array([0.5 if whole else 0.9]), np.zeros(1, int))]

    detect.info = None
    (found,) = TiledDetector(detect, 64, 0.5, 0.3)([image])
    assert found.bboxes.tolist() == [[70, 50, 90, 90]] and found.scores == [0.5]


@pytest.mark.parametrize('by', ['mmdet', 'onnxruntime'])
def test_tiles_by(by, model, tmp_path):
    """Objects of all tiles, in pixels of the picture."""
    if by == 'onnxruntime':
        model = [write_model(tmp_path / 'model.onnx')]
    image = np.random.default_rng(0).integers(0, 255, (150, 230, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'large.png'), image)
    out = ['--out-dir', tmp_path, '--pred-score-thr', '0.03']
    predict(tmp_path / 'large.png', *model, *out, '--tile', '100', '--overlap', '0.1')
    found = json.loads((tmp_path / 'preds/large.json').read_text())
    boxes = np.array(found['bboxes'])
    assert (boxes >= 0).all() and (boxes <= [230, 150] * 2).all()
    assert boxes[:, 2].max() > 200 and boxes[:, 3].max() > 130
    assert found['scores'] == sorted(found['scores'], reverse=True)


@pytest.mark.parametrize(
    'words, reason',
    [
        (['--tile', '0'], '--tile must be at least 1'),
        (['--tile', '9', '--overlap', '1'], '0.9'),
        (['--batch-size', '0'], '--batch-size must be at least 1'),
    ],
)
def test_options_that_cannot_be_had(words, reason, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(SystemExit):
        predict(tmp_path / 'a.png', write_model(tmp_path / 'model.onnx'), *words)
    assert reason in capsys.readouterr().err


def test_without_sahi(tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.split('.')[0] == 'sahi'] + ['sahi']:
        monkeypatch.setitem(sys.modules, name, None)
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 50, 3), np.uint8))
    with pytest.raises(SystemExit):
        predict(tmp_path / 'a.png', write_model(tmp_path / 'model.onnx'), '--tile', '30')
    said = capsys.readouterr().err
    assert 'pip install --no-deps sahi' in said and 'Traceback' not in said
