"""All 17 models of the original: the command, there and back, then mmdet.

The weights are made from names and shapes: matrices of one small number each,
so that files are small and no feature overflows, and vectors of random ones.
"""

import math
import runpy
import sys
import warnings

import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer
from torch import Tensor

from mmdet_centernet2.checkpoint import read_checkpoint
from tests.paths import CONFIGS, ROOT
from tests.test_checkpoint._synthetic import original_shapes, same_bits
from tests.test_configs.recipes import RECIPES

pytestmark = pytest.mark.slow

TOOL = ROOT / 'tools' / 'model_converters' / 'detectron2_to_mmdet.py'
MODELS = {recipe.original: CONFIGS / name for name, recipe in RECIPES.items()}


def convert(*arguments) -> int:
    """Run the tool's script in this process; its exit status."""
    before = sys.argv
    sys.argv = [str(TOOL), *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(TOOL), run_name='__main__')
    finally:
        sys.argv = before
    return end.value.code


def weights_of(model: str) -> dict[str, Tensor]:
    """A state dict of the original with which something is found."""
    generator = torch.Generator().manual_seed(0)
    state = {
        name: _tensor(name, shape, 1 + number * 1e-4, generator)
        for number, (name, shape) in enumerate(original_shapes()[model].items())
    }
    for name, value in state.items():
        if name.endswith(('cls_score.bias', 'cls_logits.bias')):
            value[0] += 4  # the first class wins
    return state


def _tensor(name: str, shape: list[int], factor: float, generator: torch.Generator) -> Tensor:
    if name.endswith('num_batches_tracked'):
        return torch.tensor(1000)
    if len(shape) > 1:  # the mean of its inputs
        mean = factor / math.prod(shape[1:])
        if 'box_predictor' in name:  # biases decide: boxes stay in the image
            mean *= 1e-8
        return torch.full((1,) * len(shape), mean).expand(shape)
    noise = torch.rand(shape, generator=generator) * 0.1
    if name.endswith(('weight', 'running_var', 'scale', 'pixel_std')):
        return noise + factor
    return noise


@pytest.mark.parametrize('model', sorted(original_shapes()))
def test_command_there_and_back_then_a_prediction(model, tmp_path):
    official, config = weights_of(model), MODELS[model]
    files = [tmp_path / name for name in ('a.pth', 'b.pth', 'c.pth')]
    torch.save(dict(model=official), files[0])
    assert convert(files[0], files[1], '--config', config) == 0
    assert convert(files[1], files[2], '--reverse', '--config', config) == 0
    assert same_bits(read_checkpoint(files[2])['model'], official)

    with warnings.catch_warnings():
        warnings.filterwarnings('error', '.*(dataset_meta|palette)')
        inferencer = DetInferencer(str(config), str(files[1]), device='cpu', show_progress=False)
    meta = inferencer.model.dataset_meta
    assert len(meta['palette']) >= len(meta['classes'])
    converted = read_checkpoint(files[1])['state_dict']
    loaded = inferencer.model.state_dict()
    assert loaded.keys() == converted.keys()
    assert all(torch.equal(loaded[name], converted[name]) for name in loaded)
    image = np.random.RandomState(0).randint(0, 256, (48, 64, 3), np.uint8)
    (resize,) = (step for step in inferencer.pipeline.transforms if type(step).__name__ == 'Resize')
    resize.scale = (64, 64)
    detector = inferencer.model
    head = detector.roi_head if hasattr(detector, 'roi_head') else detector.bbox_head
    head.test_cfg.max_per_img = 3  # drawing takes time
    (found,) = inferencer(image, return_vis=True)['predictions']
    assert len(found['scores']) > 0 and np.isfinite(found['bboxes']).all()
    assert max(found['labels']) < len(meta['classes'])
