"""Folders of labelled images, found by looking and read as COCO data."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import ExifTags, Image

from mmdet_centernet2.cli.own_data import find_data, split_images
from mmdet_centernet2.utils.errors import PreflightError
from tests.test_cli.own_data import WRITERS, make_images, write_coco, write_voc, write_yolo

KINDS = dict(coco='COCO', roboflow_coco='COCO', voc='Pascal VOC')


def boxes_of(data):
    """Class name and box of every object of both parts."""
    found = []
    for part in (data.train, data.val):
        content = json.loads(part.ann_file.read_text())
        names = {each['id']: each['name'] for each in content['categories']}
        for image in content['images']:
            assert (part.img_dir / image['file_name']).is_file()
        found += [(names[a['category_id']], *np.round(a['bbox'])) for a in content['annotations']]
    return Counter(found)


@pytest.mark.parametrize('name', WRITERS)
def test_every_form_gives_the_same_boxes(name, tmp_path):
    images = make_images()
    data = find_data(WRITERS[name](tmp_path / 'data', images), tmp_path / 'out')
    assert data.kind == KINDS.get(name, 'YOLO')
    assert sorted(data.classes) == ['red', 'white']
    assert data.train.images + data.val.images == len(images)
    expected = Counter(
        (('white', 'red')[label], *box) for _, boxes in images for label, *box in boxes
    )
    assert boxes_of(data) == expected
    if 'yolo' in name:
        assert any('images hold no object, such as 1.png' in note for note in data.notes)
    if name in ('coco', 'voc', 'flat_yolo'):
        assert any('held out' in note for note in data.notes)


def test_a_file_instead_of_the_folder(tmp_path):
    images = make_images()
    for path, kind in (
        (write_coco(tmp_path / 'coco', images) / 'labels.json', 'COCO'),
        (write_yolo(tmp_path / 'yolo', images) / 'data.yaml', 'YOLO'),
    ):
        assert find_data(path, tmp_path / 'out').kind == kind


def test_lines_that_stand_twice_are_one_box(tmp_path):
    folder = write_yolo(tmp_path / 'data', make_images())
    count = len(find_data(folder, tmp_path / 'out').train.content['annotations'])
    for path in (folder / 'labels/train').glob('*.txt'):
        path.write_text(f'{path.read_text()}\n{path.read_text()}')
    data = find_data(folder, tmp_path / 'again')
    assert len(data.train.content['annotations']) == count
    assert f'{count} boxes that stand twice in an image are left out' in data.notes


def test_a_path_of_another_machine_is_passed_over(tmp_path):
    folder = write_yolo(tmp_path / 'data', make_images())
    text = (folder / 'data.yaml').read_text()
    (folder / 'data.yaml').write_text(f'path: ../datasets/shapes\n{text}')
    assert find_data(folder, tmp_path / 'out').train.images == 9


def test_an_image_that_exif_turns_has_the_size_that_training_sees(tmp_path):
    folder = write_yolo(tmp_path / 'data', make_images())
    path = folder / 'images' / 'train' / '0.png'
    with Image.open(path) as image:
        width, height = image.size
        exif = image.getexif()
        exif[ExifTags.Base.Orientation] = 6  # turned by a quarter
        image.save(path, exif=exif)
    first = find_data(folder, tmp_path / 'out').train.content['images'][0]
    assert (first['width'], first['height']) == (height, width)


def test_image_sets_of_voc_are_the_split(tmp_path):
    folder = write_voc(tmp_path / 'voc', make_images())
    lists = folder / 'ImageSets' / 'Main'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('\n'.join(map(str, range(8))))
    (lists / 'val.txt').write_text('8\n9')
    data = find_data(folder, tmp_path / 'out')
    assert (data.train.images, data.val.images) == (8, 2)


def test_classes_without_a_box_are_left_out(tmp_path):
    folder = write_coco(tmp_path / 'data', make_images())
    content = json.loads((folder / 'labels.json').read_text())
    content['categories'].append(dict(id=7, name='never'))
    (folder / 'labels.json').write_text(json.dumps(content))
    data = find_data(folder, tmp_path / 'out')
    assert data.classes == ('white', 'red')
    assert 'classes without a box are left out: never' in data.notes


@pytest.mark.parametrize('seed', range(5))
def test_the_split_holds_every_class_in_both_parts(seed):
    rng = np.random.default_rng(seed)
    annotations = [
        dict(
            image_id=int(rng.integers(40)),
            category_id=int(rng.choice([1, 2, 3], p=[0.8, 0.15, 0.05])),
        )
        for _ in range(100)
    ]
    content = dict(images=[dict(id=i) for i in range(40)], annotations=annotations)
    train, val = split_images(content, seed)
    assert split_images(content, seed) == (train, val)
    assert train | val == set(range(40)) and not train & val
    assert 6 <= len(val) <= 14
    for ids in (train, val):
        assert {a['category_id'] for a in annotations if a['image_id'] in ids} == {1, 2, 3}


def _unlabelled(folder):
    folder.mkdir()
    (folder / 'a.json').write_text('{}')


def _two_kinds(folder):
    write_yolo(folder, make_images())
    write_voc(folder / 'voc', make_images())


def _no_yaml(folder):
    write_yolo(folder, make_images())
    (folder / 'data.yaml').unlink()


def _bad_line(folder):
    write_yolo(folder, make_images())
    (folder / 'labels' / 'train' / '0.txt').write_text('0 0.5 0.5 0.1')


def _unknown_class(folder):
    write_yolo(folder, make_images())
    (folder / 'labels' / 'train' / '0.txt').write_text('5 0.5 0.5 0.1 0.1')


def _broken_yaml(folder):
    write_yolo(folder, make_images())
    (folder / 'data.yaml').write_text('train: images/train\nnames: [cat\n')


def _names_of_text(folder):
    write_yolo(folder, make_images())
    (folder / 'data.yaml').write_text('train: images/train\nnames: cat\n')


def _no_training_labels(folder):
    write_yolo(folder, make_images())
    shutil.rmtree(folder / 'labels' / 'train')


def _lost_images(folder):
    write_coco(folder, make_images())
    for path in folder.glob('*.png'):
        path.unlink()


def _unnamed_parts(folder):
    write_coco(folder / 'a', make_images())
    write_coco(folder / 'b', make_images())


def _broken_xml(folder):
    write_voc(folder, make_images())
    (folder / 'Annotations' / '0.xml').write_text('<annotation><filename>')


def _no_boxes(folder):
    write_coco(folder, [image._replace(boxes=[]) for image in make_images()])


@pytest.mark.parametrize(
    'write, message',
    [
        (lambda folder: None, 'does not exist'),
        (_unlabelled, 'holds no labels'),
        (_two_kinds, 'several kinds.*YOLO: data.yaml.*Pascal VOC'),
        (_no_yaml, 'neither a classes.txt .* nor a data.yaml'),
        (_bad_line, '0.txt, line 1: .*3 numbers after the class'),
        (_unknown_class, '0.txt, line 1: .*class 5, there are 2'),
        (_broken_yaml, 'data.yaml cannot be read .*line 3'),
        (_names_of_text, 'names must be a list'),
        (_no_training_labels, 'labels of the train part hold no box'),
        (_lost_images, "image '0.png' is in none of the usual places"),
        (_unnamed_parts, 'several COCO files.*a/labels.json, b/labels.json'),
        (_broken_xml, '0.xml is no file of Pascal VOC'),
        (_no_boxes, 'hold no box'),
    ],
)
def test_faults_are_named(write, message, tmp_path):
    write(tmp_path / 'data')
    with pytest.raises(PreflightError, match=message):
        find_data(tmp_path / 'data', tmp_path / 'out')
