"""``centernet2 predict`` on videos, by mmdet and by onnxruntime."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_centernet2.cli.main import main
from tests.paths import CONFIGS
from tests.test_deploy.stand_in import write_model

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


def test_what_is_no_video(tmp_path, capsys):
    broken = tmp_path / 'broken.MP4'
    broken.write_bytes(b'\0' * 99)
    model = write_model(tmp_path / 'model.onnx')
    with pytest.raises(SystemExit):
        predict(broken, model)
    assert f'video {broken} cannot be decoded by OpenCV' in capsys.readouterr().err


def test_an_interrupted_video_is_kept(video, tmp_path, monkeypatch):
    model = write_model(tmp_path / 'model.onnx')
    from mmdet_centernet2.cli.predict import import_runtime

    demo, calls = import_runtime('demo'), []

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
