"""Pseudo labels: what is kept, how it is written, how it goes on."""

import json

import numpy as np
import pytest
import torch
from mmdet.registry import DATASETS, MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from mmdet_centernet2.checkpoint import CheckpointError
from mmdet_centernet2.cli.checks import PreflightError
from mmdet_centernet2.cli.pseudo_labels import (
    annotations_of,
    category_block,
    list_images,
    main,
    make_pseudo_labels,
)
from mmdet_centernet2.datasets.transforms.loading import ImageReadError
from tests import _tiny

CLASSES = ('cat', 'dog')
CATEGORIES = category_block(
    CLASSES,
    [
        dict(id=9, name='dog', supercategory='animal'),
        dict(id=4, name='cow'),
        dict(id=7, name='cat'),
    ],
)
PIPELINE = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(type='ResizeShortestEdge', scale=40, max_size=60, backend='pillow'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
#: Height and width of the images in pixels; sorted, they come in this order.
SIZES = {'a.png': (20, 30), 'b.JPG': (40, 25), 'sub/c.png': (30, 30)}


def detections(scores, labels, boxes, **fields):
    return InstanceData(
        scores=torch.tensor(scores),
        labels=torch.tensor(labels),
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        **fields,
    )


class Detector(torch.nn.Module):
    """Finds a dog and a faint cat whose places tell the image's id.

    Args:
        fail_at (int, optional): Image at which it fails.
    """

    def __init__(self, fail_at=None):
        super().__init__()
        self.fail_at = fail_at
        self.seen = []

    def test_step(self, batch):
        results = []
        for sample in batch['data_samples']:
            if sample.img_id == self.fail_at:
                raise KeyboardInterrupt
            self.seen.append(sample.img_id)
            left = float(sample.img_id)
            found = detections(
                [0.9, 0.5, 0.49],
                [1, 0, 0],
                [[left, 2, left + 3.5, 7.25], [0, 0, 1, 1], [5, 5, 6, 6]],
            )
            results.append(DetDataSample(metainfo=sample.metainfo, pred_instances=found))
        return results


@pytest.fixture
def folder(tmp_path):
    for name, (height, width) in SIZES.items():
        path = tmp_path / 'images' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (width, height)).save(path)
    (tmp_path / 'images' / 'notes.txt').write_text('no image')
    return tmp_path / 'images'


def make(folder, out, model=None, batch_size=2, num_workers=0, **settings):
    listed = list_images(str(folder))[:2]
    settings = dict(dict(score_thr=0.5), **settings)
    loading = dict(batch_size=batch_size, num_workers=num_workers)
    make_pseudo_labels(
        model or Detector(), PIPELINE, *listed, CATEGORIES, str(out), settings, **loading
    )


def test_the_file(folder, tmp_path, capsys):
    out = tmp_path / 'out.json'
    make(folder, out, checkpoint='x.pth')
    assert '6 labels on 3 of 3 images' in capsys.readouterr().out
    content = json.loads(out.read_text())
    assert content['images'] == [
        dict(id=i, file_name=name, height=size[0], width=size[1])
        for i, (name, size) in enumerate(SIZES.items(), 1)
    ]
    assert content['categories'] == [
        dict(id=7, name='cat'),
        dict(id=9, name='dog', supercategory='animal'),
    ]
    assert content['annotations'][2] == dict(
        id=3,
        image_id=2,
        category_id=9,
        bbox=[2.0, 2.0, 3.5, 5.25],
        area=18.375,
        iscrowd=0,
        score=0.9,
    )
    assert [a['id'] for a in content['annotations']] == [1, 2, 3, 4, 5, 6]
    assert min(a['score'] for a in content['annotations']) == 0.5
    assert content['info']['score_thr'] == 0.5
    assert content['info']['checkpoint'] == 'x.pth'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['images', 'out.json']
    assert len(COCO(str(out)).getAnnIds()) == 6


@pytest.mark.parametrize('loading', [dict(), dict(num_workers=1)])
def test_interrupted_and_gone_on(folder, tmp_path, loading):
    out, whole = tmp_path / 'out.json', tmp_path / 'whole.json'
    (tmp_path / 'out.json.partial').write_text('{"settings": {"score')  # cut off, too
    with pytest.raises(KeyboardInterrupt):
        make(folder, out, Detector(fail_at=3), **loading)
    assert not out.exists()
    partial = tmp_path / 'out.json.partial'
    # as if it had stopped within a line
    partial.write_text(partial.read_text() + '{"image": {"id": 3, "fi')
    second = Detector()
    make(folder, out, second, **loading)
    assert second.seen == [3]
    make(folder, whole)
    assert json.loads(out.read_text()) == json.loads(whole.read_text())
    assert not partial.exists()


def test_images_that_came_in_between_get_ids_of_their_own(folder, tmp_path):
    out = tmp_path / 'out.json'
    with pytest.raises(KeyboardInterrupt):
        make(folder, out, Detector(fail_at=3))
    Image.new('RGB', (9, 9)).save(folder / 'aa.png')
    make(folder, out)
    content = json.loads(out.read_text())
    ids = {image['file_name']: image['id'] for image in content['images']}
    assert ids == {'a.png': 1, 'aa.png': 2, 'b.JPG': 3, 'sub/c.png': 4}
    dogs = [a for a in content['annotations'] if a['score'] == 0.9]
    # those of b.JPG were found when it was number 2
    assert [(a['image_id'], a['bbox'][0]) for a in dogs] == [(1, 1), (2, 2), (3, 2), (4, 4)]


def test_earlier_results_with_other_settings_are_refused(folder, tmp_path):
    out = tmp_path / 'out.json'
    with pytest.raises(KeyboardInterrupt):
        make(folder, out, Detector(fail_at=3))
    before = (tmp_path / 'out.json.partial').read_text()
    with pytest.raises(PreflightError, match="other settings: {'score_thr': 0.5}"):
        make(folder, out, score_thr=0.3)
    assert (tmp_path / 'out.json.partial').read_text() == before


@pytest.mark.parametrize('scope', ['mmdet', 'mmdet_centernet2'])
def test_a_broken_image_is_named_and_nothing_is_lost(folder, tmp_path, monkeypatch, scope):
    monkeypatch.setitem(PIPELINE[0], '_scope_', scope)
    (folder / 'sub' / 'c.png').write_bytes(b'no picture')
    out = tmp_path / 'out.json'
    with pytest.raises(ImageReadError, match='c.png'):
        make(folder, out, batch_size=1)
    (folder / 'sub' / 'c.png').unlink()
    model = Detector()
    make(folder, out, model, batch_size=1)
    assert model.seen == []
    assert len(json.loads(out.read_text())['images']) == 2


def test_a_file_in_the_way(folder, tmp_path):
    out = tmp_path / 'out.json'
    out.write_text('precious')
    with pytest.raises(PreflightError, match='exists already'):
        make(folder, out)
    assert out.read_text() == 'precious'
    with pytest.raises(PreflightError, match='does not exist'):
        make(folder, tmp_path / 'nowhere' / 'out.json')


def test_annotations_are_sorted_and_boxes_without_area_left_out():
    found = detections(
        [0.6, 0.8, 0.7, 0.9],
        [0, 1, 0, 1],
        [[0, 0, 2, 2], [1, 1, 1.00001, 5], [3, 3, 4, 4], [5, 5, 7, 6]],
    )
    annotations = annotations_of(found, CATEGORIES, 0.65)
    assert [a['bbox'] for a in annotations] == [[5, 5, 2, 1], [3, 3, 1, 1]]
    assert [a['category_id'] for a in annotations] == [9, 7]
    assert annotations_of(found[:0], CATEGORIES, 0.5) == []


def test_masks_are_written():
    mask = torch.zeros(1, 6, 8, dtype=torch.bool)
    mask[0, 2:4, 3:6] = True
    found = detections([0.9], [0], [[3, 2, 6, 4]], masks=mask)
    (annotation,) = annotations_of(found, CATEGORIES, 0.5)
    rle = json.loads(json.dumps(annotation))['segmentation']
    np.testing.assert_array_equal(mask_utils.decode(rle), mask[0])


def test_categories():
    assert category_block(('b', 'a')) == [dict(id=1, name='b'), dict(id=2, name='a')]
    assert category_block(('b', 'a'), [dict(id=8, name='a')])[1] == dict(id=2, name='a')
    with pytest.raises(PreflightError, match='class 2, but only 2 class'):
        annotations_of(detections([0.9], [2], [[0, 0, 1, 1]]), CATEGORIES, 0.5)


def test_lists_of_images(folder, tmp_path):
    path = tmp_path / 'image_info.json'
    entry = dict(id=77, file_name='a.png', height=1, width=1, license=3)
    path.write_text(json.dumps(dict(images=[entry], categories=CATEGORIES)))
    _, images, categories = list_images(str(path), str(folder))
    assert images == [entry] and categories == CATEGORIES
    with pytest.raises(PreflightError, match="no category is named .'b'"):
        category_block(('b', 'cat'), path=str(path))
    out = tmp_path / 'out.json'
    settings = dict(score_thr=0.5)
    make_pseudo_labels(Detector(), PIPELINE, str(folder), images, CATEGORIES, str(out), settings)
    # the size is that of the image as it is read
    assert json.loads(out.read_text())['images'] == [dict(entry, height=20, width=30)]


@pytest.mark.parametrize(
    'content, message',
    [
        ('[]', 'is not a COCO file'),
        ('{"images": [{"id": 1}]}', 'is not a COCO file.*file_name'),
        ('{"ima', 'is not a COCO file'),
        ('{"images": [{"id": 1, "file_name": "z.png"}]}', 'there is no .*z.png'),
    ],
)
def test_bad_lists(folder, tmp_path, content, message):
    path = tmp_path / 'image_info.json'
    path.write_text(content)
    with pytest.raises(PreflightError, match=message):
        list_images(str(path), str(folder))


def test_bad_folders(tmp_path):
    with pytest.raises(PreflightError, match='there is no folder'):
        list_images(str(tmp_path / 'nowhere'))
    with pytest.raises(PreflightError, match='holds no image'):
        list_images(str(tmp_path))


def test_they_train_beside_real_labels(folder, tmp_path):
    """The union of the two sets; ``score`` changes nothing."""
    make(folder, tmp_path / 'pseudo.json')
    real = json.loads((tmp_path / 'pseudo.json').read_text())
    for annotation in real['annotations']:
        del annotation['score']
    (tmp_path / 'real.json').write_text(json.dumps(real))
    pipeline = [
        dict(type='LoadImageFromFile', imdecode_backend='pillow'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs'),
    ]
    datasets = [
        dict(
            type='CenterNet2CocoDataset',
            ann_file=str(tmp_path / name),
            data_prefix=dict(img=f'{folder}/'),
            metainfo=dict(classes=CLASSES),
            pipeline=pipeline,
        )
        for name in ('real.json', 'pseudo.json')
    ]
    both = DATASETS.build(dict(type='ConcatDataset', datasets=datasets))
    assert len(both) == 6 and both.metainfo['classes'] == CLASSES
    for index in range(3):
        real, pseudo = (both[i]['data_samples'].gt_instances for i in (index, index + 3))
        assert torch.equal(real.bboxes.tensor, pseudo.bboxes.tensor)
        assert real.labels.tolist() == pseudo.labels.tolist() == [1, 0]
        assert sorted(pseudo.keys()) == sorted(real.keys())


# -----the command-----
@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """Config and checkpoint of a tiny detector that has seen nothing."""
    root = tmp_path_factory.mktemp('detector')
    data = _tiny.write_dataset(root / 'data')
    cfg = _tiny.tiny_config(data, model__test_cfg__rcnn__score_thr=0.0)
    cfg.dump(root / 'tiny.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    torch.save(dict(state_dict=model.state_dict()), root / 'tiny.pth')
    return root


def arguments(detector, out, images=None, *more):
    images = images or detector / 'data/images'
    line = (detector / 'tiny.py', detector / 'tiny.pth', images, out)
    return list(map(str, (*line, '--device', 'cpu', '--workers', 0, *more)))


def test_the_command(detector, tmp_path, capsys):
    out = tmp_path / 'out.json'
    main(arguments(detector, out, None, '--score-thr', 0.01, '--batch-size', 4))
    content = json.loads(out.read_text())
    assert len(content['images']) == len(_tiny.PICTURES)
    assert [c['name'] for c in content['categories']] == list(_tiny.CLASSES)
    assert content['annotations']
    for annotation in content['annotations']:
        left, top, width, height = annotation['bbox']
        # 96 x 128 pixels, detected on at 96 x 128
        assert 0 <= left and left + width <= 128.001
        assert 0 <= top and top + height <= 96.001
        assert annotation['score'] >= 0.01
    assert f'labels on {len(_tiny.PICTURES)} of' in capsys.readouterr().out


def test_ids_of_another_file(detector, tmp_path):
    out, listed = tmp_path / 'out.json', detector / 'data/annotations.json'
    known = tmp_path / 'known.json'
    categories = [dict(id=30, name=_tiny.CLASSES[1]), dict(id=10, name=_tiny.CLASSES[0])]
    known.write_text(json.dumps(dict(images=[], categories=categories)))
    options = ('--img-dir', detector / 'data/images', '--categories', known)
    main(arguments(detector, out, listed, *options))
    content = json.loads(out.read_text())
    assert [c['id'] for c in content['categories']] == [10, 30]
    listed_images = json.loads(listed.read_text())['images']
    assert content['images'] == listed_images


def test_what_is_wrong_is_said_first(detector, tmp_path):
    out = tmp_path / 'out.json'
    with pytest.raises(PreflightError, match='no folder'):
        main(arguments(detector, out, tmp_path / 'nowhere'))
    with pytest.raises(PreflightError, match='--img-dir'):
        main(arguments(detector, out, tmp_path / 'list.json'))
    with pytest.raises(PreflightError, match='config .* does not exist'):
        main(['no.py', *arguments(detector, out)[1:]])
    with pytest.raises(CheckpointError, match='does not exist'):
        arguments_ = arguments(detector, out)
        arguments_[1] = 'no.pth'
        main(arguments_)
    assert list(tmp_path.iterdir()) == []


def test_an_image_that_cannot_be_read(detector, tmp_path):
    images = tmp_path / 'images'
    images.mkdir()
    (images / 'a.png').write_bytes(b'')
    for workers in (0, 1):
        with pytest.raises(PreflightError) as error:
            main(arguments(detector, tmp_path / 'out.json', images, '--workers', workers))
        assert str(error.value).startswith('image ')
        assert 'a.png is empty' in str(error.value)
        assert 'out.json.partial' in str(error.value)
