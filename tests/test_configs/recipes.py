"""Which of the original's models each config is, and how it may differ."""

import ast
import json
from typing import Any, NamedTuple

from mmdet_centernet2.checkpoint.zoo import shipped_models
from tests.paths import CONFIGS, DATA


class Difference(NamedTuple):
    """A setting that is not the original's on purpose."""

    ours: Any
    why: str


class Recipe(NamedTuple):
    """A config's model of the original.

    Attributes:
        original: Its name.
        differences: By the original's keys.
    """

    original: str
    differences: dict[str, Difference]


#: The original downloads DLA's ImageNet weights itself, whatever
#: MODEL.WEIGHTS says; the ResNet's that it names fit none of DLA's tensors.
_DLA_WEIGHTS = Difference('', "the named weights fit none of DLA's tensors")
_SIX_REPEATS = {
    'MODEL.WEIGHTS': _DLA_WEIGHTS,
    'SOLVER.BASE_LR': Difference(0.01, 'the documented rate of the repeats'),
    'SOLVER.MAX_ITER': Difference(6 * 360000, 'six repeats as one run'),
}
_ONE_AND_A_HALF = {
    'SOLVER.MAX_ITER': Difference(
        540000,
        'no config of the original has the name of this zoo '
        'row: its schedule is one and a half times the 16x one',
    )
}
_FROM_THE_DETECTOR = {
    'MODEL.WEIGHTS': Difference(
        'centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco',
        'starts from that detector, not from ImageNet',
    ),
    'SOLVER.RESET_ITER': Difference(True, 'else nothing would be trained'),
}

#: Original name in the metafile -> what is different.
_DIFFERENCES = {
    'CenterNet2_DLA-BiFPN-P3_4x': {'MODEL.WEIGHTS': _DLA_WEIGHTS},
    'CenterNet2_DLA-BiFPN-P3_24x': _SIX_REPEATS,
    'CenterNet2_DLA-BiFPN-P5_640_24x_ST': _ONE_AND_A_HALF,
    'CenterNet2_R2-101-DCN-BiFPN_4x+4x_1560_ST': _FROM_THE_DETECTOR,
}
#: A row of the original's zoo that has no config there -> the nearest one.
_CONFIG_OF_ROW = {'CenterNet2_DLA-BiFPN-P5_640_24x_ST': 'CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST'}
#: Config below ``configs/`` -> recipe, of all models in the metafiles.
RECIPES: dict[str, Recipe] = {
    f'{model.config.parent.name}/{model.config.name}': Recipe(
        _CONFIG_OF_ROW.get(model.original, model.original), _DIFFERENCES.get(model.original, {})
    )
    for model in shipped_models()
}
#: Folders whose configs are models of the original's zoo.
FOLDERS = ('centernet', 'centernet2')
#: Folders without models: parts of configs.
NO_MODELS = ('_base_/', 'deploy/')
#: Configs that the original has nothing like.
OWN_CONFIGS = {
    f'centernet2/centernet2_mobilenet-v2_fpn_{name}.py' for name in ('small', 'tree-tiles')
}


def original_settings(name: str) -> dict[str, Any]:
    """Every effective setting of one of the original's models."""
    table = json.loads((DATA / 'original_configs.json').read_text())
    merged = {**table['common'], **table[name]}
    return {key: ast.literal_eval(value) for key, value in merged.items()}


def shipped_configs() -> set:
    """Configs that are there, below ``configs/``, base files apart."""
    found = {str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob('*.py')}
    return {name for name in found if not name.startswith(NO_MODELS)}
