"""Conversion of whole state dicts, checked against real models."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.registry import MODELS
from mmengine.config import Config

from mmdet_centernet2.checkpoint import (
    CheckpointError,
    check_against,
    convert_state_dict,
    revert_state_dict,
)
from mmdet_centernet2.checkpoint.match import Fit, class_mismatch, require_fit
from mmdet_centernet2.cli import convert

from ._synthetic import (
    FLAGSHIP,
    FLAGSHIP_CONFIG,
    original_shapes,
    random_state,
    same_bits,
    synthetic,
)

KEYS = sorted(original_shapes()[FLAGSHIP])


def flagship_config() -> Config:
    return convert.load_config(FLAGSHIP_CONFIG)


def flagship_state():
    return convert.model_state(flagship_config().model, FLAGSHIP_CONFIG)


def _refusal(official) -> str:
    """What is said about an original state dict for the flagship."""
    with pytest.raises(CheckpointError) as caught:
        require_fit(convert_state_dict(official), flagship_state())
    return str(caught.value)


def test_flagship_loads_strictly_and_comes_back_bit_for_bit():
    official = random_state(FLAGSHIP)
    conversion = convert_state_dict(official)
    assert conversion.unplaced == []
    model = MODELS.build(flagship_config().model)
    assert check_against(model.state_dict(), conversion.state_dict)
    model.load_state_dict(conversion.state_dict, strict=True)
    back = revert_state_dict(model.state_dict(), conversion.meta())
    assert same_bits(back, official)


def test_flagship_has_the_parameters_of_the_original():
    with torch.device('meta'):
        model = MODELS.build(flagship_config().model)
    # The original has 71,645,897: there the frozen norms' affine numbers are
    # buffers and do not count.
    norms = sum(
        value.numel()
        for name, value in model.backbone.named_parameters()
        if '.bn' in name or name.startswith('bn') or '.downsample.1.' in name
    )
    total = sum(value.numel() for value in model.parameters())
    assert total - norms == 71_645_897


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KEYS))
def test_a_missing_tensor_is_named_and_refused(name):
    official = synthetic(FLAGSHIP)
    del official[name]
    said = _refusal(official)
    assert 'missing in the checkpoint (1)' in said
    assert f'(original name: {name})' in said


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KEYS), st.sampled_from(['x', '.extra', '.weight']), st.booleans())
def test_a_tensor_too_much_is_named_and_refused(name, ending, renamed):
    official = synthetic(FLAGSHIP)
    value = official.pop(name) if renamed else official[name]
    official[name + ending] = value
    said = _refusal(official)
    lines = [line.strip() for line in said.splitlines()]
    if 'no place for (1):' in lines:
        assert name + ending in lines
    else:
        assert 'not in the model (1):' in lines
        assert any(line.endswith(f'(original name: {name}{ending})') for line in lines)
    assert any(line.endswith(f'(original name: {name})') for line in lines) == renamed


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KEYS), st.data())
def test_a_tensor_of_another_shape_is_named_and_refused(name, data):
    official = synthetic(FLAGSHIP)
    shape = list(official[name].shape)
    changes = [[*shape, 1], [1, *shape], [*shape[:-1], shape[-1] + 1], [shape[0] + 1, *shape[1:]]]
    # A scalar would be what our Scale has, but never comes from the original.
    shape = data.draw(st.sampled_from(changes))
    official[name] = torch.zeros(()).expand(shape)
    said = _refusal(official)
    assert 'wrong shape (1)' in said
    assert f'(original name: {name}): {shape}, the model has ' in said


@settings(max_examples=5, deadline=None)
@given(st.permutations(KEYS))
def test_the_order_of_tensors_does_not_matter(keys):
    official = synthetic(FLAGSHIP)
    shuffled = {key: official[key] for key in keys}
    conversion = convert_state_dict(shuffled)
    assert check_against(flagship_state(), conversion.state_dict)
    back = revert_state_dict(conversion.state_dict, conversion.meta())
    assert same_bits(back, shuffled)


def test_integers_in_place_of_floats_are_refused():
    official = synthetic(FLAGSHIP)
    name = 'backbone.fpn_lateral3.bias'
    official[name] = torch.zeros(256, dtype=torch.int32)
    assert '[256] of integers, the model has [256]' in _refusal(official)


def test_half_precision_is_kept():
    official = {name: value.half() for name, value in random_state('CenterNet2-F_R50_1x').items()}
    conversion = convert_state_dict(official)
    back = revert_state_dict(conversion.state_dict, conversion.meta())
    assert same_bits(back, official)


def test_a_fit_counts_every_kind_strictly():
    """What ``load_state_dict`` takes or forgives is wrong, too."""
    model = {name: torch.ones(()) for name in ('scale', 'bn.num_batches_tracked', 'good')}
    fit = check_against(model, {'scale': torch.ones(1), 'good': torch.ones(()), 'more': 1})
    assert not fit
    assert fit.missing == ['bn.num_batches_tracked']
    assert fit.mismatched == {'scale': ('[1]', '[]')}
    assert fit.left_out == ['scale', 'bn.num_batches_tracked']
    assert (fit.unexpected, fit.loaded) == (['more'], 1)


def test_class_advice_names_the_keys_that_matter():
    config = Config(
        dict(
            model=dict(
                rpn_head=dict(num_classes=1),
                roi_head=dict(
                    bbox_head=[dict(num_classes=80), dict(num_classes=4)],
                    mask_head=dict(num_classes=4),
                ),
            )
        )
    )
    wrong = ('roi_head.bbox_head.1.fc_cls.bias', 'roi_head.mask_head.logits.bias')
    fit = Fit([], [], dict.fromkeys(wrong, ('', '')))
    said, options = class_mismatch(config, fit, {80})
    assert 'trained for 80 classes, the config has 4' in said
    assert options == (
        'model.roi_head.bbox_head.1.num_classes=80 model.roi_head.mask_head.num_classes=80'
    )
    for same, found in ((fit, {4}), (fit, set()), (Fit([], [], {}), {80})):
        assert class_mismatch(config, same, found) == ('', '')
