"""Where scores come from: as data, and as a page."""

import json
import re

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import init_detector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config

from mmdet_centernet2.cli.main import main
from mmdet_centernet2.cli.why import gather
from tests.paths import CONFIGS

FAMILIES = {
    'cascade': 'centernet2/centernet2_mobilenet-v2_fpn_small.py',
    'one stage': 'centernet/centernet_r50-caffe_fpn_ms-1x_coco.py',
    'federated': 'centernet2/centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py',
}


def page_data(page):
    text = page.read_text()
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def config(family):
    cfg = Config.fromfile(CONFIGS / FAMILIES[family])
    cfg.model.backbone.init_cfg = None
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == 'Resize':
            step.scale = (192, 128)
    if 'rpn' in cfg.model.test_cfg:  # 1,203 classes of each proposal take long
        cfg.model.test_cfg.rpn.max_per_img = 64
    return cfg


@pytest.fixture(scope='module')
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp('why') / 'image <b>.png'
    picture = np.random.default_rng(0).integers(0, 255, (90, 140, 3)).astype(np.uint8)
    cv2.rectangle(picture, (30, 20), (80, 70), (255, 255, 255), -1)
    cv2.imwrite(str(path), picture)
    return path


@pytest.fixture(scope='module', params=FAMILIES)
def detector(request):
    cfg = config(request.param)
    torch.manual_seed(0)
    model = init_detector(cfg, None, device='cpu', palette='none')
    head = model.bbox_head if request.param == 'one stage' else model.roi_head
    head.test_cfg.score_thr = 0.0
    if request.param != 'one stage':  # without training, one class never wins
        for each in model.roi_head.bbox_head:
            torch.nn.init.normal_(each.fc_cls.weight, std=0.2)
    names = tuple(f'class {i}' for i in range(_num_classes(model)))
    model.dataset_meta = dict(classes=names)
    return model, cfg


def _num_classes(model):
    return model.roi_head.bbox_head[0].num_classes if hasattr(model, 'roi_head') else 80


def test_a_score_is_made_of_what_is_shown(detector, image):
    model, cfg = detector
    data = gather(model, cfg, image)
    assert data['detections'] and data['proposals']
    for found in data['detections'][:20]:
        if 'probs' not in found:
            continue
        mean = np.mean(found['stages'], 0)
        assert np.allclose(mean, found['probs'], atol=2e-4)
        score = np.sqrt(found['proposal_score'] * found['probs'][found['label']])
        assert score == pytest.approx(found['score'], abs=2e-3)
        proposal = data['proposals'][found['proposal']]
        assert proposal['kept'] and proposal['score'] == found['proposal_score']
        level = data['levels'][proposal['level']]
        column, row = (round(proposal['cell'][axis] / level['cell'][axis]) for axis in range(2))
        heat = level['values'][row * level['size'][0] + column] / 255
        assert heat == pytest.approx(proposal['score'], abs=3e-3)
    for proposal in data['proposals']:
        if proposal['by'] >= 0:
            assert not proposal['kept'] and data['proposals'][proposal['by']]['kept']


@torch.no_grad()
def test_explaining_changes_no_bit(detector, image):
    model, cfg = detector
    torch.manual_seed(0)
    inputs = torch.rand(2, 3, 128, 160)
    meta = dict(img_shape=(128, 160), ori_shape=(64, 80), scale_factor=(2.0, 2.0))
    samples = [DetDataSample(metainfo=dict(meta, batch_input_shape=(128, 160))) for _ in range(2)]
    head = model.roi_head if hasattr(model, 'roi_head') else model.bbox_head
    plain = [s.pred_instances.clone() for s in model.predict(inputs, samples)]
    head.test_cfg.explain = True
    explained = [s.pred_instances for s in model.predict(inputs, samples)]
    del head.test_cfg['explain']
    for without, with_ in zip(plain, explained):
        assert set(without.keys()) == {'bboxes', 'scores', 'labels'}
        for key in without.keys():
            assert torch.equal(without[key], with_[key])
        assert with_.levels.max() < len(model.neck.fpn_convs) + 2
        if hasattr(model, 'roi_head'):
            assert with_.class_probs.shape == (len(with_), _num_classes(model) + 1)
            chosen = with_.class_probs.gather(1, with_.labels[:, None])[:, 0]
            torch.testing.assert_close((chosen * with_.proposal_scores).sqrt(), with_.scores)


@pytest.mark.slow
def test_the_command(image, tmp_path, capsys):
    cfg = config('cascade')
    cfg.dump(tmp_path / 'config.py')
    model = MODELS.build(cfg.model)
    model.init_weights()
    classes = tuple(f'</script>{i}' for i in range(80))
    torch.save(
        dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=classes))),
        tmp_path / 'model.pth',
    )
    page = tmp_path / 'why.html'
    files = [str(tmp_path / 'config.py'), str(tmp_path / 'model.pth')]
    main(['why', str(image), *files, '--out', str(page), '--device', 'cpu'])
    assert f'{page} (' in capsys.readouterr().out
    data = page_data(page)
    assert (data['width'], data['height']) == (140, 90)
    assert data['classes'] == list(classes)  # and did not end the script
    assert page.stat().st_size < 5e6
    assert 'image &lt;b&gt;.png' in page.read_text()
    others = [image.with_name('other.png'), tmp_path / 'a/same.png', tmp_path / 'b/same.png']
    for other in others:
        other.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(other), np.zeros((60, 60, 3), np.uint8))
    images = map(str, [image, *others])
    main(['why', *images, *files, '--out', str(page), '--device', 'cpu'])
    names = {path.name for path in (tmp_path / 'why').iterdir()}
    folder = '_'.join(tmp_path.parts[1:])
    assert names == {'image <b>.html', 'other.html'} | {
        f'{folder}_{name}_same.png.html' for name in 'ab'
    }
    with pytest.raises(SystemExit):
        main(['why', str(tmp_path / 'no.png'), *files, '--out', str(page)])
    assert 'no.png cannot be read' in capsys.readouterr().err
    cfg.model.roi_head.bbox_head.num_classes = 3
    cfg.dump(tmp_path / 'config.py')
    with pytest.raises(SystemExit):
        main(['why', str(image), *files, '--out', str(page)])
    assert 'was trained for 80 classes, the config has 3' in capsys.readouterr().err
