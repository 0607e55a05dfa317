"""Our packing gives what mmdet's gives, from every kind of array."""

import mmcv
import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import PackDetInputs as MMDetPackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_centernet2.datasets.transforms import PackDetInputs


def test_which_name_gives_which_class():
    for scope, kind in (('mmdet_centernet2', PackDetInputs), ('mmdet', MMDetPackDetInputs)):
        assert type(TRANSFORMS.build(dict(type='PackDetInputs', _scope_=scope))) is kind


@pytest.mark.parametrize('dtype', [np.uint8, np.float32])
@pytest.mark.parametrize('shape', [(31, 20, 3), (2, 3, 3), (9, 5, 1), (9, 5, 4), (9, 5)])
@pytest.mark.parametrize('view', ['whole', 'window', 'horizontal', 'vertical', 'diagonal'])
def test_same_as_mmdet(shape, dtype, view):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    if view == 'window':
        image = np.pad(image, [(2, 3), (4, 5), (0, 0)][: len(shape)])[2:-3, 4:-5]
    elif view != 'whole':
        image = mmcv.imflip(image, view)
    boxes = HorizontalBoxes(torch.tensor([[1.0, 2, 3, 4], [0, 0, 1, 1]]))
    packed = []
    for kind in (PackDetInputs, MMDetPackDetInputs):
        results = dict(
            img=image.view(),
            img_id=3,
            img_shape=shape[:2],
            gt_bboxes=boxes,
            gt_bboxes_labels=np.array([5, 6]),
            gt_ignore_flags=np.array([0, 1]),
        )
        packed.append(kind(meta_keys=('img_id', 'img_shape'))(results))
    ours, theirs = packed
    assert ours['inputs'].dtype == theirs['inputs'].dtype
    assert ours['inputs'].is_contiguous()
    assert torch.equal(ours['inputs'], theirs['inputs'])
    ours, theirs = ours['data_samples'], theirs['data_samples']
    assert ours.metainfo == theirs.metainfo
    assert torch.equal(ours.gt_instances.bboxes.tensor, theirs.gt_instances.bboxes.tensor)
    assert torch.equal(ours.ignored_instances.labels, theirs.ignored_instances.labels)
