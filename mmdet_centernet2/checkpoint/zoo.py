"""Which config of this package a checkpoint of the original belongs to."""

from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional, Tuple

from torch import Tensor

from .variants import Variant, num_classes


class Network(NamedTuple):
    """What can be seen of a network in its tensors.

    Args:
        backbone (str): Name with depth, such as ``resnet50``.
        neck (str): As in :class:`Variant`.
        roi (str): As in :class:`Variant`.
        levels (int): Number of feature levels.
        num_classes (int): Foreground classes.
        mask (bool): Whether there is a mask head.
    """

    backbone: str
    neck: str
    roi: str
    levels: int
    num_classes: int
    mask: bool = False


class Entry(NamedTuple):
    """A model of the original's zoo."""

    name: str
    config: str
    network: Network


# Where several models are one network (they differ in training only), the
# first is taken: any of their configs checks a checkpoint equally well.
ZOO: Tuple[Entry, ...] = (
    Entry('CenterNet-S4_DLA_8x',
          'centernet/centernet-s4_dla34_crop640-8x_coco.py',
          Network('dla34', 'dla-up', 'none', 1, 80)),
    Entry('CenterNet-FPN_R50_1x',
          'centernet/centernet_r50-caffe_fpn_ms-1x_coco.py',
          Network('resnet50', 'fpn', 'none', 5, 80)),
    Entry('CenterNet2-F_R50_1x',
          'centernet2/centernet2-faster_r50-caffe_fpn_ms-1x_coco.py',
          Network('resnet50', 'fpn', 'single', 5, 80)),
    Entry('CenterNet2_R50_1x',
          'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
          Network('resnet50', 'fpn', 'cascade', 5, 80)),
    Entry('CenterNet2_X101-DCN_2x',
          'centernet2/centernet2_x101-32x8d-mdconv-c4-c5_fpn_ms-2x_coco.py',
          Network('resnext101', 'fpn', 'cascade', 5, 80)),
    Entry('CenterNet2_DLA-BiFPN-P3_4x',
          'centernet2/centernet2_dla34_fcos-bifpn-p3_ms-4x_coco.py',
          Network('dla34', 'fcos-bifpn', 'cascade', 3, 80)),
    Entry('CenterNet2_DLA-BiFPN-P5_640_16x',
          'centernet2/centernet2_dla34_bifpn-p5_crop640-16x_coco.py',
          Network('dla34', 'bifpn', 'cascade', 5, 80)),
    Entry('CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST',
          'centernet2/centernet2_dla34_fcos-bifpn-p5_crop640-16x-st_coco.py',
          Network('dla34', 'fcos-bifpn', 'cascade', 5, 80)),
    Entry('CenterNet2_R2-101-DCN_896_4x',
          'centernet2/centernet2_r2-101-mdconv-c4-c5_fpn_crop896-4x_coco.py',
          Network('res2net101', 'fpn', 'cascade', 5, 80)),
    Entry('CenterNet2_R2-101-DCN-BiFPN_1280_4x',
          'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x'
          '_coco.py', Network('res2net101', 'bifpn', 'cascade', 5, 80)),
    Entry('LVIS_CenterNet2_R50_1x',
          'centernet2/centernet2_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py',
          Network('resnet50', 'fpn', 'cascade', 5, 1203)),
    Entry('O365_CenterNet2_R50_1x',
          'centernet2/centernet2_r50-caffe_fpn_ms-cas-1x_objects365v1.py',
          Network('resnet50', 'fpn', 'cascade', 5, 365)),
    Entry('nuImages_CenterNet2_DLA_640_8x',
          'centernet2/centernet2-mask_dla34_crop640-8x_nuimages.py',
          Network('dla34', 'dla-up', 'cascade', 1, 10, mask=True)),
)


def network_of(state: Mapping[str, Tensor],
               variant: Variant) -> Optional[Network]:
    """The network that a converted state dict is for.

    Args:
        state (Mapping): Our name -> tensor.
        variant (Variant): What the state dict is.

    Returns:
        Network | None: None when its classifiers are missing or disagree.
    """
    classes = num_classes(state, variant)
    if len(classes) != 1:
        return None
    levels = sum(name.startswith(f'{variant.head}.scales.') for name in state)
    return Network(
        _backbone_name(state, variant.backbone), variant.neck, variant.roi,
        levels, classes.pop(), variant.mask)


def _backbone_name(state: Mapping[str, Tensor], kind: str) -> str:
    if kind == 'dla':  # DLA-34 has two convolutions in a block, others three
        return 'dla60' if _has(state, '.conv3.weight') else 'dla34'
    blocks = {
        name.split('.')[2]
        for name in state if name.startswith('backbone.layer3.')
    }
    depth = {6: '50', 23: '101'}.get(len(blocks), f'-c4-{len(blocks)}')
    grouped = state.get('backbone.layer1.0.conv2.weight')
    if grouped is not None and grouped.shape[0] != grouped.shape[1]:
        kind = 'resnext'
    return kind + depth


def _has(state: Mapping[str, Tensor], ending: str) -> bool:
    return any(
        name.startswith('backbone.') and name.endswith(ending)
        for name in state)


def entries_of(network: Optional[Network]) -> List[Entry]:
    """Models of the zoo that are this network."""
    return [entry for entry in ZOO if entry.network == network]


def shipped_config(name: str) -> Optional[Path]:
    """Path of a config of this package, None if it is not shipped.

    Args:
        name (str): Path below ``configs/``.
    """
    package = Path(__file__).resolve().parent.parent
    # A wheel carries the configs inside the package, a checkout beside it.
    for folder in (package / '.mim' / 'configs', package.parent / 'configs'):
        if (folder / name).is_file():
            return folder / name
    return None
