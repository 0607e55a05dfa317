"""Annotation files that go wrong as real exports do.

Either every object reaches training and the annotations themselves score AP
1.0 as detections, or an error says what is wrong and where before training.
"""

import json

import pytest
from PIL import Image

from mmdet_centernet2.datasets import AnnotationError, annotation_file, centernet2_coco
from tests.test_datasets import exports


def each(change):
    """Change every annotation."""

    def apply(js, folder):
        for ann in js['annotations']:
            change(ann)

    return apply


def first(**fields):
    """Change the first annotation."""
    return lambda js, folder: js['annotations'][0].update(fields)


def image(**fields):
    return lambda js, folder: js['images'][0].update(fields)


def corners(ann):
    x, y, w, h = ann['bbox']
    ann['bbox'] = [x, y, x + w, y + h]


def centres(ann):
    x, y, w, h = ann['bbox']
    ann['bbox'] = [x + w / 2, y + h / 2, w, h]


def transposed(ann):
    x, y, w, h = ann['bbox']
    ann['bbox'] = [y, x, h, w]


def normalised(ann):
    x, y, w, h = ann['bbox']
    ann['bbox'] = [x / 160, y / 120, w / 160, h / 120]


def percent(ann):
    x, y, w, h = ann['bbox']
    ann['bbox'] = [x / 1.6, y / 1.2, w / 1.6, h / 1.2]


def enlarged(ann):
    ann['bbox'] = [3 * v for v in ann['bbox']]


def joined(js, folder):
    for number, img in enumerate(js['images']):
        img['id'] = number // 2 + 1
    for ann in js['annotations']:
        ann['image_id'] = (ann['image_id'] + 1) // 2


def repeated(js, folder):
    js['annotations'] += [dict(ann, id=ann['id'] + 100) for ann in js['annotations']]


def root_category(name, supercategory='none', key=0):

    def apply(js, folder):
        js['categories'].insert(0, dict(id=key, name=name, supercategory=supercategory))

    return apply


def both_cats_used(js, folder):
    js['categories'].append(dict(id=3, name='cat'))
    js['annotations'][0]['category_id'] = 3


def other_case(name):
    """Of the objects of the class 'cat', one has a category of its own."""

    def apply(js, folder):
        js['categories'].append(dict(id=9, name=name))
        js['annotations'][0]['category_id'] = 9

    return apply


def other_order(js, folder):
    for category in js['categories']:
        category['name'] = {'cat': 'dog', 'dog': 'cat'}[category['name']]
    for ann in js['annotations']:
        ann['category_id'] = 3 - ann['category_id']


def text_ids(js, folder, sides=('images', 'annotations')):
    if 'images' in sides:
        for img in js['images']:
            img['id'] = str(img['id'])
    if 'annotations' in sides:
        for ann in js['annotations']:
            ann['image_id'] = str(ann['image_id'])


def text_categories(js, folder):
    for ann in js['annotations']:
        ann['category_id'] = str(ann['category_id'])


def everything_as_text(js, folder):
    text_ids(js, folder)
    text_categories(js, folder)
    for category in js['categories']:
        category['id'] = str(category['id'])


def gaps(js, folder):
    js['categories'] = [dict(id=90, name='dog'), dict(id=17, name='x'), dict(id=13, name='cat')]
    for ann in js['annotations']:
        ann['category_id'] = {1: 13, 2: 90}[ann['category_id']]


def half(change):
    """Change the second half of the annotations, as of another file."""
    return lambda js, folder: [change(ann) for ann in js['annotations'][6:]]


def renamed(name):
    """File names are written otherwise than the files are named."""

    def apply(js, folder):
        (folder / 'images/train_0.png').rename(folder / 'images/b\u00e4r 0.png')
        js['images'][0]['file_name'] = name

    return apply


def whole_floats(js, folder):
    for entry in (*js['images'], *js['annotations'], *js['categories']):
        entry.update({k: float(v) for k, v in entry.items() if k in exports.IDS})


def large(js, folder):
    """Beyond what a float tells apart, and negative."""
    for entry in (*js['images'], *js['annotations'], *js['categories']):
        entry.update({k: -(2**53) - v for k, v in entry.items() if k in exports.IDS})


def without(*keys):
    return each(lambda ann: [ann.pop(key) for key in keys] and None)


READ = {
    'as it should be': lambda js, folder: None,
    'annotation ids from 0': each(lambda a: a.update(id=a['id'] - 1)),
    'annotation ids as text': each(lambda a: a.update(id=f'a{a["id"]}')),
    'no area, no iscrowd': without('area', 'iscrowd'),
    'null area and iscrowd': each(lambda a: a.update(area=None, iscrowd=None)),
    'area of zero': each(lambda a: a.update(area=0, segmentation=[])),
    'iscrowd as text': each(lambda a: a.update(iscrowd='0')),
    'ignore as text': each(lambda a: a.update(ignore='0')),
    'iscrowd as truth value': each(lambda a: a.update(iscrowd=False)),
    'one of another crowd': first(iscrowd=0, ignore=None),
    'root category of another name': root_category('animals'),
    'root category with a class name': root_category('cat'),
    'root category that does not say so': root_category('cat', 'animal', 9),
    'categories in another order': other_order,
    'categories backwards': lambda js, folder: js['categories'].reverse(),
    'image ids as text on both sides': text_ids,
    'sizes as floating point': image(width=160.0, height=120.0),
    'boxes as floating point': each(lambda a: a.update(bbox=[float(v) for v in a['bbox']])),
    'no segmentation': without('segmentation'),
    'category ids from 0': lambda js, folder: (
        [c.update(id=c['id'] - 1) for c in js['categories']],
        [a.update(category_id=a['category_id'] - 1) for a in js['annotations']],
    ),
    'annotations before images': lambda js, folder: js.update(images=js.pop('images')),
    'ids as text everywhere': everything_as_text,
    'ids as whole floats': whole_floats,
    'large and negative ids': large,
    'category ids with gaps': gaps,
    'what CVAT and COCO-annotator add': each(
        lambda a: a.update(attributes=dict(rotation=0, track=[{}, {}]), isbbox=True, iscrowd=False)
    ),
    'images with fields of annotations': lambda js, folder: [
        i.update(image_id=7, bbox=[0, 0, 160, 120]) for i in js['images']
    ],
    'flat polygons': each(lambda a: a.update(segmentation=a['segmentation'][0])),
    'absolute paths': lambda js, folder: [
        i.update(file_name=str(folder / 'images' / i['file_name'])) for i in js['images']
    ],
}


@pytest.mark.parametrize('name', READ)
def test_is_read_whole(tmp_path, name):
    exports.write(tmp_path, READ[name])
    assert exports.score(exports.read(tmp_path), tmp_path / 'train.json') == (12, 1.0)


def test_objects_to_ignore_are_neither_trained_on_nor_missed(tmp_path):
    exports.write(tmp_path, first(ignore=1))
    assert exports.score(exports.read(tmp_path), tmp_path / 'train.json') == (11, 1.0)


REFUSED = {
    'joined files': (joined, 'image id 1 stands twice: .*train_0.png.*, .*_1.png'),
    'annotations joined twice': (
        repeated,
        '12 of 24 annotations repeat another, .*annotation 101 ',
    ),
    'annotation ids twice': (first(id=2), 'annotation id 2 stands twice'),
    'annotation without id': (first(id=None), 'annotation number 1 .*"id" is None'),
    'no annotations': (
        lambda js, folder: js.update(annotations=[]),
        'no object to train on: 4 images, 0 annotations',
    ),
    'only crowds': (each(lambda a: a.update(iscrowd=1)), '12 crowds'),
    'all to be ignored': (each(lambda a: a.update(ignore=1)), '12 marked "ignore"'),
    'iscrowd as a word': (first(iscrowd='yes'), '"iscrowd" is \'yes\''),
    'ignore as a number': (first(ignore=7), '"ignore" is 7'),
    'image ids as text on one side': (
        lambda js, folder: text_ids(js, folder, ('images',)),
        r"unknown image 1 \(number\); known are '1' \(text\)",
    ),
    'image ids as text on the other': (
        lambda js, folder: text_ids(js, folder, ('annotations',)),
        r"unknown image '1' \(text\); known are 1 \(number\)",
    ),
    'category ids as text': (text_categories, r"unknown category '1' \(text\)"),
    'mixed ids': (image(id='x'), 'some image ids are text'),
    'category used twice': (both_cats_used, "name 'cat' stands twice"),
    'category id twice': (root_category('x', key=1), 'category id 1 stands'),
    'no categories': (lambda js, folder: js.update(categories=[]), 'lists no categories'),
    'outside to the right': (first(bbox=[500, 400, 30, 30]), 'outside'),
    'outside to the left': (first(bbox=[-40, 5, 30, 30]), 'outside'),
    'corners': (each(corners), 'these look like corners'),
    'corners in half of the file': (half(corners), 'these look like corners'),
    'centres': (each(centres), 'these look like .centre x, centre y'),
    'normalised': (each(normalised), '12 of 12 .*these look normalised'),
    'normalised in half of the file': (half(normalised), '6 of 12 .*these look normalised'),
    'corners of one object': (
        lambda js, folder: js.update(
            annotations=[dict(js['annotations'][0], bbox=[100, 70, 140, 110])]
        ),
        '1 of 1 .*these look like corners',
    ),
    'far too large': (first(bbox=[0, 0, 1e200, 1e200]), 'far larger than the image'),
    'of a larger image': (each(enlarged), 'images of another size'),
    'no boxes at all': (
        each(lambda a: a.update(bbox=None)),
        '"bbox" is None .*four finite numbers',
    ),
    'no width': (first(bbox=[5, 5, 0, 9]), 'no area'),
    'area as text': (first(area='12'), '"area" is \'12\''),
    'area beyond the image': (first(area=1e12), '"area" is 1000000000000.0 in .* 160x120. 1 of 12'),
    'areas beyond the image': (each(lambda a: a.update(area=1e12)), '12 of 12 areas are larger'),
    'a class in another case': (other_case('Cat'), "annotations of the category 'Cat' .*'cat'"),
    'a class with a space': (other_case('cat '), "annotations of the category 'cat ' .*'cat'"),
    'transposed': (each(transposed), 'these look like .top, left, height, width'),
    'area below zero': (first(area=-12), '"area" is -12'),
    'width as text': (image(width='160'), '"width" is \'160\''),
    'no height': (image(height=0), '"height" is 0'),
    'file name as a number': (image(file_name=7), '"file_name" is 7; it must be the name'),
    'empty file name': (image(file_name=''), '"file_name" is \'\'; it must be the name'),
    'address': (image(file_name='https://host/train_0.png'), 'are addresses: download'),
    'folder of another machine': (
        image(file_name='/home/alice/train_0.png'),
        "There is '.*images/train_0.png'",
    ),
    'escaped file name': (renamed('b%C3%A4r%200.png'), "There is '.*/b\u00e4r 0.png'"),
    'decomposed file name': (renamed('ba\u0308r 0.png'), "There is '.*/b\u00e4r 0.png'"),
    'space after a file name': (renamed('b\u00e4r 0.png '), "There is '.*/b\u00e4r 0.png'"),
    'backslashes': (
        image(file_name='images\\train_0.png'),
        r'1 of 4 images do not exist.*backslashes',
    ),
    'folder named twice': (
        lambda js, folder: [i.update(file_name='images/' + i['file_name']) for i in js['images']],
        '4 of 4 images do not exist.*data_prefix=dict',
    ),
    'space before a file name': (renamed(' b\u00e4r 0.png'), "There is '.*/b\u00e4r 0.png'"),
    'line break in a file name': (image(file_name='train_0.png\n'), r"train_0.png\\n'.*There is"),
    'another ending': (image(file_name='train_0.JPG'), "do not exist.*There is '.*/train_0.png'"),
    'missing image': (image(file_name='lost.png'), '1 of 4 images do not'),
    'images as an object': (lambda js, folder: js.update(images={}), '"images" is not a list'),
    'annotations of text': (
        lambda js, folder: js.update(annotations=['a']),
        '"annotations" is not a list of objects',
    ),
}


@pytest.mark.parametrize('name', REFUSED)
def test_is_refused_at_the_start(tmp_path, name):
    change, message = REFUSED[name]
    exports.write(tmp_path, change)
    with pytest.raises(AnnotationError, match=message) as error:
        exports.read(tmp_path)
    assert str(tmp_path / 'train.json') in str(error.value)


def shrink(picture):
    return picture.resize((80, 60))


def rotate(picture):
    return picture.rotate(90, expand=True)


@pytest.mark.parametrize(
    'change, words',
    [
        (shrink, '80x60 pixels.*160x120.*resized'),
        (rotate, '120x160 pixels.*160x120.*rotated'),
        ('exif', '120x160 pixels.*160x120.*rotated'),
    ],
)
@pytest.mark.parametrize('loader', [{}, dict(_scope_='mmdet_centernet2')])
def test_image_of_another_size_is_named(tmp_path, change, words, loader):
    exports.write(tmp_path)
    path = tmp_path / 'images' / 'train_0.png'
    picture = Image.open(path)
    if change == 'exif':
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(path, exif=exif)
    else:
        change(picture).save(path)
    load = dict(exports.PIPELINE[0], **loader)
    dataset = exports.read(tmp_path, pipeline=[load, *exports.PIPELINE[1:]])
    with pytest.raises(AnnotationError, match=f'train_0.png is {words}'):
        dataset[0]


MASKS = [
    exports.PIPELINE[0],
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    exports.PIPELINE[2],
]


@pytest.mark.parametrize(
    'segmentation',
    [
        [[1, 2, 3, 4]],
        [],
        None,
        [1, 2, 30, 2, 30, 40],
        [[1, 2, 30, 2, 30]],
        [[[1, 2], [30, 2], [30, 40]]],
        dict(size=[160, 120], counts='PPY11'),
        dict(size=[120, 160]),
        dict(size=[120, 160], counts=7),
        dict(size=[120, 160], counts='PPYQ1111111111'),  # more pixels than the image has
        dict(size=[120, 160], counts='0'),  # none
        dict(size=[120, 160], counts=[7, 9]),
        dict(size=[120, 160], counts=[-1, 19201]),
        dict(size=[120, 160], counts=[100.5, 19099.5]),
        dict(size=[120, 160], counts=[19200]),
    ],
)
def test_bad_masks_are_named_where_masks_are_asked_for(tmp_path, segmentation):
    message = (
        'masks are asked for, it must be polygons .*three points, or run lengths of .*120, 160'
    )
    exports.write(tmp_path, first(segmentation=segmentation))
    assert len(exports.read(tmp_path)) == 4
    with pytest.raises(AnnotationError, match=f'annotation 1 .*{message}'):
        exports.read(tmp_path, pipeline=MASKS)
    dropped = exports.read(tmp_path, pipeline=MASKS, bad_boxes='drop')
    assert len(dropped.get_data_info(0)['instances']) == 2
    path = str(tmp_path / 'train.json')
    with pytest.raises(AnnotationError, match=f'annotation 1 .*{message}'):
        exports.score(dropped, path, metric=['bbox', 'segm'])


@pytest.mark.parametrize(
    'change, pipeline, message',
    [
        (first(segmentation=[[1, 2, 30, 2, 30, 40], [1, 2]]), MASKS, 'polygons of 1 annotations'),
        (half(lambda a: a.update(iscrowd=1)), None, '6 of 12 annotations are crowds'),
        (each(percent), None, 'are they in percent'),
        (
            each(lambda a: a.update(area=a['area'] * 4)),
            None,
            'area" of 12 of 12 annotations is unlike',
        ),
        (each(lambda a: a.update(area=a['area'] / 19200)), None, 'area" of 12 of 12 annotations'),
    ],
)
def test_what_may_be_right_is_said(tmp_path, monkeypatch, change, pipeline, message):
    said = []
    for module in (annotation_file, centernet2_coco):
        monkeypatch.setattr(module, 'print_log', lambda text, *args: said.append(text))
    exports.write(tmp_path, change)
    exports.read(tmp_path, pipeline=pipeline or exports.PIPELINE).full_init()
    assert any(message in line for line in said)


def test_both_cases_may_be_classes(tmp_path):
    exports.write(tmp_path, other_case('Cat'))
    data = exports.read(tmp_path, classes=('cat', 'dog', 'Cat'))
    assert sum(len(data.get_data_info(i)['instances']) for i in range(4)) == 12


def test_dropped_boxes_are_dropped_in_evaluation_too(tmp_path):
    exports.write(tmp_path, first(bbox=[500, 400, 30, 30]))
    dataset = exports.read(tmp_path, bad_boxes='drop')
    path = tmp_path / 'train.json'
    assert exports.score(dataset, path, bad_boxes='drop') == (11, 1.0)
    with pytest.raises(AnnotationError, match='bad_boxes="drop" in the eval'):
        exports.score(dataset, path)


def test_a_share_of_bad_boxes_as_small_as_coco_s_is_tolerated(tmp_path):
    """Two of train2017's 860,001 boxes have no height."""

    def many(js, folder):
        one = js['annotations'][0]
        js['annotations'] = [dict(one, id=i, bbox=[5 + i / 2000, 5, 30, 30]) for i in range(100000)]
        js['annotations'][7] = dict(one, id=7, bbox=[5, 5, 9, 0])

    exports.write(tmp_path, many)
    dataset = exports.read(tmp_path)
    assert len(dataset.get_data_info(0)['instances']) == 99999


def test_images_that_nobody_labelled_are_fine_for_testing(tmp_path):
    exports.write(tmp_path, lambda js, folder: js.pop('annotations'))
    dataset = exports.read(tmp_path, test_mode=True)
    assert len(dataset) == 4
    with pytest.raises(AnnotationError, match='no object to evaluate'):
        exports.score(dataset, tmp_path / 'train.json')
    exports.score(
        dataset, tmp_path / 'train.json', format_only=True, outfile_prefix=str(tmp_path / 'out')
    )
    assert json.loads((tmp_path / 'out.bbox.json').read_text()) == []


# -----other families-----
def lvis(folder, change=None):
    exports.write(folder, change, lvis=True)
    return exports.read(folder, kind='CenterNet2LVISDataset')


@pytest.mark.parametrize(
    'name',
    [
        'as it should be',
        'categories backwards',
        'annotation ids from 0',
        'no area, no iscrowd',
        'iscrowd as text',
        'null area and iscrowd',
    ],
)
def test_lvis_is_read_whole(tmp_path, name):
    dataset = lvis(tmp_path, READ[name])
    assert exports.score(dataset, tmp_path / 'train.json', 'CenterNet2LVISMetric') == (12, 1.0)


@pytest.mark.parametrize(
    'name',
    [
        'joined files',
        'annotation ids twice',
        'no annotations',
        'corners',
        'outside to the right',
        'normalised',
        'category used twice',
    ],
)
def test_lvis_is_refused_at_the_start(tmp_path, name):
    change, message = REFUSED[name]
    with pytest.raises(AnnotationError, match=message):
        lvis(tmp_path, change)


@pytest.mark.parametrize('kind', ['CenterNet2Objects365Dataset', 'NuImagesDataset'])
def test_other_data_sets_read_alike(tmp_path, kind):
    exports.write(tmp_path, READ['annotation ids from 0'])
    dataset = exports.read(tmp_path, kind=kind)
    assert exports.score(dataset, tmp_path / 'train.json') == (12, 1.0)
    exports.write(tmp_path, REFUSED['corners'][0])
    with pytest.raises(AnnotationError, match='corners'):
        exports.read(tmp_path, kind=kind)


@pytest.mark.parametrize(
    'classes, message',
    [('cat', 'with a comma'), (('cat', 'cat'), "'cat' twice"), (('cat', 3), 'different names')]
    + [(classes, 'must be a list') for classes in (None, {0: 'cat'}, {'cat', 'dog'})],
)
def test_classes_that_are_no_list(tmp_path, classes, message):
    exports.write(tmp_path)
    with pytest.raises(ValueError, match=message):
        exports.read(tmp_path, classes=classes)


def test_palette_follows_the_classes(tmp_path):
    exports.write(tmp_path)
    palette = exports.read(tmp_path).metainfo['palette']
    assert len(palette) == 2 and palette[0] != palette[1]
