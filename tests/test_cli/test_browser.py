"""The pages in a real browser: they show what they should, without an error."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import init_detector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmdet_centernet2.cli.demo import build_page
from mmdet_centernet2.cli.report import write_report
from mmdet_centernet2.cli.why import write_page
from tests.browser import BROWSER_MARKS, open_browser
from tests.test_cli.own_data import CLASSES, make_images, write_coco
from tests.test_cli.test_why import config

pytestmark = BROWSER_MARKS
NAME = 'a_photograph_with_a_long_name_that_does_not_fit_a_phone.png'
SIZES = {'desktop': (1200, 900), 'phone': (390, 800)}


@pytest.fixture(scope='module', params=SIZES)
def browser_page(request):
    """An empty page; errors of its console are kept."""
    with open_browser() as browser:
        width, height = SIZES[request.param]
        page = browser.new_page(viewport=dict(width=width, height=height))
        page.problems = []
        page.on('pageerror', lambda error: page.problems.append(str(error)))
        page.on(
            'console',
            lambda said: page.problems.append(said.text) if said.type == 'error' else None,
        )
        page.on('requestfailed', lambda failed: page.problems.append(failed.url))
        yield page


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """The report of a made-up training: boxes of the labels, moved a little."""
    folder = tmp_path_factory.mktemp('report')
    images = make_images()
    labels = write_coco(folder / 'data', images) / 'labels.json'
    content = json.loads(labels.read_text())
    for image in (*content['images'], *content['annotations']):  # some tools write text
        key = 'image_id' if 'image_id' in image else 'id'
        image[key] = f'image {image[key]}'
    labels.write_text(json.dumps(content))
    labels = str(labels)
    rng = np.random.default_rng(0)
    samples = []
    for number, (_, boxes) in enumerate(images):
        found = np.array(boxes, dtype=float).reshape(-1, 5)
        found = np.concatenate([found, [[0, 1, 1, 20, 20]]])  # and one that is wrong
        xyxy = found[:, 1:].copy()
        xyxy[:, 2:] += xyxy[:, :2]
        sample = DetDataSample(
            metainfo=dict(img_id=f'image {number}', img_path=str(folder / 'data' / f'{number}.png'))
        )
        sample.pred_instances = InstanceData(
            bboxes=torch.from_numpy(xyxy + rng.normal(0, 1, xyxy.shape)),
            scores=torch.linspace(0.9, 0.2, len(found)),
            labels=torch.from_numpy(found[:, 0]).long(),
        )
        samples.append(sample)
    cfg = Config(
        dict(
            train_dataloader=dict(
                dataset=dict(ann_file=labels, metainfo=dict(classes=list(CLASSES)))
            ),
            val_evaluator=dict(ann_file=labels),
            train_cfg=dict(val_interval=10),
        )
    )
    cfg.dump(folder / 'config.py')
    cfg = Config.fromfile(folder / 'config.py')
    names = ('val/coco/bbox_mAP', 'val/coco/bbox_mAP_50', 'train/loss', 'train/s0.loss_bbox')
    history = {name: SimpleNamespace(data=(np.linspace(0.1, 0.6, 20), None)) for name in names}
    cv2.imwrite(str(folder / 'labels.png'), np.zeros((90, 140, 3), np.uint8))
    write_report(folder / 'report.html', cfg, samples, history, lambda page, image: page.touch())
    return folder / 'report.html'


def test_report(browser_page, report):
    page = browser_page
    page.goto(f'file://{report}')
    pictures = page.locator('svg.picture')
    assert pictures.count() == 12
    assert page.locator('figure svg').count() == 3
    for figure in page.locator('figure svg, figure img, svg.picture').all():
        assert figure.bounding_box()['width'] > 100
    visible = page.locator('rect.found:visible')
    before = visible.count()
    page.locator('#score').fill('0.85')
    assert 0 < visible.count() < before
    page.locator('#truth').uncheck()
    assert page.locator('rect.truth:visible').count() == 0
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    assert page.problems == []


@pytest.fixture(scope='module')
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp('picture') / NAME
    cv2.imwrite(str(path), make_images(1)[0].image)
    return path


@pytest.fixture(scope='module')
def detector():
    """An untrained model and its config."""
    cfg = config('cascade')
    torch.manual_seed(0)
    model = init_detector(cfg, None, device='cpu', palette='none')
    model.roi_head.test_cfg.score_thr = 0.0
    model.dataset_meta = dict(classes=tuple(f'class <{i}>' for i in range(80)))
    return model, cfg


def test_why(browser_page, detector, picture):
    page, path = browser_page, picture.with_name('why.html')
    write_page(path, picture, *detector)
    page.goto(f'file://{path}')
    story = page.locator('#story')
    assert '√(' in story.inner_text()  # the best detection is explained at first
    assert 'class <' in story.inner_text() and 'stage 3' in story.inner_text()
    page.locator('#level').select_option('0')
    assert page.locator('#heat').is_visible()
    page.locator('#proposals').check()
    page.locator('#objectness').fill('0')
    assert page.locator('rect.proposal').count() > 0
    page.locator('#found').fill('1')
    assert page.locator('rect.detection:visible').count() == 0
    page.locator('#view').click(position=dict(x=60, y=60))
    assert 'Nearly found' in story.inner_text() and 'stride 8' in story.inner_text()
    page.locator('#found').fill('0')
    page.locator('rect.detection').first.dispatch_event('click')
    assert 'geometric mean' in story.inner_text()
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    data = json.loads(page.locator('#data').inner_text() or page.locator('#data').text_content())
    assert data['levels'][0]['stride'] == 8
    assert page.problems == []


@pytest.fixture(scope='module')
def demo(detector):
    """The address of the served page."""
    page = build_page(*detector)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True)
    yield address
    page.close()


def test_demo(browser_page, demo, picture):
    page = browser_page
    page.goto(demo)
    page.locator('input[type=file]').set_input_files(picture)
    why = page.frame_locator('iframe')
    story, boxes = why.locator('#story'), why.locator('rect.detection:visible')
    story.get_by_text('√(').wait_for()
    assert NAME in why.locator('h1').inner_text()
    before = boxes.count()
    why.locator('#found').fill('1')
    assert before > 0 and boxes.count() == 0
    why.locator('#view').click(position=dict(x=60, y=60))
    assert 'Nearly found' in story.inner_text() and 'stride 8' in story.inner_text()
    assert page.evaluate('document.documentElement.scrollWidth <= window.innerWidth')
    page.get_by_role('button', name='Remove Image').click()
    page.locator('iframe').wait_for(state='detached')
    # Gradio closes its stream of events itself
    assert [each for each in page.problems if '/queue/data?' not in each] == []
