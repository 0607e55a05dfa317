"""Which of the original's models each config is, and how it may differ."""
import ast
import json
from typing import Any, Dict, NamedTuple

from tests.paths import CONFIGS, DATA


class Difference(NamedTuple):
    """A setting that is not the original's on purpose."""

    ours: Any
    why: str


class Recipe(NamedTuple):
    """A config's model of the original.

    Args:
        original (str): Its name.
        differences (dict[str, Difference]): By the original's keys.
    """

    original: str
    differences: Dict[str, Difference] = {}


#: The original downloads DLA's ImageNet weights itself, whatever
#: MODEL.WEIGHTS says; the ResNet's that it names fit none of DLA's tensors.
_DLA_WEIGHTS = Difference('', 'the named weights fit none of DLA\'s tensors')
_SIX_REPEATS = {
    'MODEL.WEIGHTS':
    _DLA_WEIGHTS,
    'SOLVER.BASE_LR':
    Difference(0.01, 'the documented rate of the repeats'),
    'SOLVER.MAX_ITER':
    Difference(6 * 360000, 'six repeats as one run'),
}
_ONE_AND_A_HALF = {
    'SOLVER.MAX_ITER':
    Difference(540000, 'no config of the original has the name of this zoo '
               'row: its schedule is one and a half times the 16x one'),
}
_FROM_THE_DETECTOR = {
    'MODEL.WEIGHTS':
    Difference('centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco',
               'starts from that detector, not from ImageNet'),
    'SOLVER.RESET_ITER':
    Difference(True, 'else nothing would be trained'),
}

#: Config below ``configs/`` -> recipe.
RECIPES: Dict[str, Recipe] = {
    'centernet/centernet-s4_dla34_crop640-8x_coco.py':
    Recipe('CenterNet-S4_DLA_8x'),
    'centernet/centernet_r50-caffe_fpn_ms-1x_coco.py':
    Recipe('CenterNet-FPN_R50_1x'),
    'centernet2/centernet2-faster_r50-caffe_fpn_ms-1x_coco.py':
    Recipe('CenterNet2-F_R50_1x'),
    'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py':
    Recipe('CenterNet2_R50_1x'),
    'centernet2/centernet2_x101-32x8d-mdconv-c4-c5_fpn_ms-2x_coco.py':
    Recipe('CenterNet2_X101-DCN_2x'),
    'centernet2/centernet2_dla34_fcos-bifpn-p3_ms-4x_coco.py':
    Recipe('CenterNet2_DLA-BiFPN-P3_4x', {'MODEL.WEIGHTS': _DLA_WEIGHTS}),
    'centernet2/centernet2_dla34_fcos-bifpn-p3_ms-24x_coco.py':
    Recipe('CenterNet2_DLA-BiFPN-P3_24x', _SIX_REPEATS),
    'centernet2/centernet2_dla34_bifpn-p5_crop640-16x_coco.py':
    Recipe('CenterNet2_DLA-BiFPN-P5_640_16x'),
    'centernet2/centernet2_dla34_bifpn-p5_crop640-16x-st_coco.py':
    Recipe('CenterNet2_DLA-BiFPN-P5_640_16x_ST'),
    'centernet2/centernet2_dla34_fcos-bifpn-p5_crop640-16x-st_coco.py':
    Recipe('CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST'),
    'centernet2/centernet2_dla34_fcos-bifpn-p5_crop640-24x-st_coco.py':
    Recipe('CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST', _ONE_AND_A_HALF),
    'centernet2/centernet2_r2-101-mdconv-c4-c5_fpn_crop896-4x_coco.py':
    Recipe('CenterNet2_R2-101-DCN_896_4x'),
    'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco.py':
    Recipe('CenterNet2_R2-101-DCN-BiFPN_1280_4x'),
    'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x+4x-st_coco'
    '.py':
    Recipe('CenterNet2_R2-101-DCN-BiFPN_4x+4x_1560_ST', _FROM_THE_DETECTOR),
    'centernet2/centernet2_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py':
    Recipe('LVIS_CenterNet2_R50_1x'),
    'centernet2/centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py':
    Recipe('LVIS_CenterNet2_R50_Fed_1x'),
    'centernet2/centernet2_r50-caffe_fpn_ms-cas-1x_objects365v1.py':
    Recipe('O365_CenterNet2_R50_1x'),
    'centernet2/centernet2-mask_dla34_crop640-8x_nuimages.py':
    Recipe('nuImages_CenterNet2_DLA_640_8x'),
}
#: Folders whose configs are models of the original's zoo.
FOLDERS = ('centernet', 'centernet2')
#: Folders without models: parts of configs.
NO_MODELS = ('_base_/', 'deploy/')
#: Configs that the original has nothing like.
OWN_CONFIGS = {'centernet2/centernet2_mobilenet-v2_fpn_tree-tiles.py'}


def original_settings(name: str) -> Dict[str, Any]:
    """Every effective setting of one of the original's models."""
    table = json.loads((DATA / 'original_configs.json').read_text())
    merged = {**table['common'], **table[name]}
    return {key: ast.literal_eval(value) for key, value in merged.items()}


def shipped_configs() -> set:
    """Configs that are there, below ``configs/``, base files apart."""
    found = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py')}
    return {name for name in found if not name.startswith(NO_MODELS)}
