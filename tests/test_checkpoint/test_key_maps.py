"""Names of the original and of this package, both ways.

Only the maps; whether our models have these names is in ``test_convert.py``.
"""

import re

import pytest
import torch

from mmdet_centernet2.checkpoint import CheckpointError, convert_state_dict, revert_state_dict
from mmdet_centernet2.checkpoint.key_maps import find_network, key_map, rename, reverse
from mmdet_centernet2.cli.convert import find_config
from tests.paths import ROOT

from ._synthetic import original_shapes, same_bits, synthetic

MODELS = sorted(original_shapes())
HEAD = 'proposal_generator.centernet_head.'

# Model, its network; entry of the zoo if another one has the network.
NETWORKS = """
CenterNet-FPN_R50_1x resnet fpn none
CenterNet-S4_DLA_8x dla dla-up none
CenterNet2-F_R50_1x resnet fpn single
CenterNet2_DLA-BiFPN-P3_24x dla fcos-bifpn cascade CenterNet2_DLA-BiFPN-P3_4x
CenterNet2_DLA-BiFPN-P3_4x dla fcos-bifpn cascade
CenterNet2_DLA-BiFPN-P5_640_16x dla bifpn cascade
CenterNet2_DLA-BiFPN-P5_640_16x_ST dla bifpn cascade CenterNet2_DLA-BiFPN-P5_640_16x
CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST dla fcos-bifpn cascade
CenterNet2_R2-101-DCN-BiFPN_1280_4x res2net bifpn cascade
CenterNet2_R2-101-DCN-BiFPN_4x+4x_1560_ST res2net bifpn cascade CenterNet2_R2-101-DCN-BiFPN_1280_4x
CenterNet2_R2-101-DCN_896_4x res2net fpn cascade
CenterNet2_R50_1x resnet fpn cascade
CenterNet2_X101-DCN_2x resnet fpn cascade
LVIS_CenterNet2_R50_1x resnet fpn cascade
LVIS_CenterNet2_R50_Fed_1x resnet fpn cascade LVIS_CenterNet2_R50_1x
O365_CenterNet2_R50_1x resnet fpn cascade
nuImages_CenterNet2_DLA_640_8x dla dla-up cascade
"""

# Tensors without a counterpart here.
EXTRAS = {
    'CenterNet-FPN_R50_1x': ['pixel_mean', 'pixel_std'],
    'CenterNet-S4_DLA_8x': [
        'backbone.base.fc.bias',
        'backbone.base.fc.weight',
        'pixel_mean',
        'pixel_std',
    ],
    'LVIS_CenterNet2_R50_Fed_1x': [
        f'roi_heads.box_predictor.{k}.{name}'
        for k in range(3)
        for name in ('fed_loss_cls_weights', 'freq_weight')
    ],
    'nuImages_CenterNet2_DLA_640_8x': ['backbone.base.fc.bias', 'backbone.base.fc.weight'],
}

# Model: names in the original and here, written out by hand.
TABLE = """
CenterNet2_R50_1x:
  backbone.bottom_up.stem.conv1.weight  backbone.conv1.weight
  backbone.bottom_up.stem.conv1.norm.running_mean  backbone.bn1.running_mean
  backbone.bottom_up.res2.0.conv1.weight  backbone.layer1.0.conv1.weight
  backbone.bottom_up.res5.2.conv3.norm.bias  backbone.layer4.2.bn3.bias
  backbone.bottom_up.res3.0.shortcut.weight  backbone.layer2.0.downsample.0.weight
  backbone.bottom_up.res3.0.shortcut.norm.weight  backbone.layer2.0.downsample.1.weight
  backbone.fpn_lateral3.weight  neck.lateral_convs.0.conv.weight
  backbone.fpn_output5.bias  neck.fpn_convs.2.conv.bias
  backbone.top_block.p6.weight  neck.fpn_convs.3.conv.weight
  backbone.top_block.p7.bias  neck.fpn_convs.4.conv.bias
  HEAD.bbox_tower.9.weight  rpn_head.reg_convs.3.conv.weight
  HEAD.bbox_tower.10.bias  rpn_head.reg_convs.3.gn.bias
  HEAD.bbox_pred.weight  rpn_head.conv_reg.weight
  HEAD.agn_hm.bias  rpn_head.conv_agn.bias
  HEAD.scales.4.scale  rpn_head.scales.4.scale
  roi_heads.box_head.0.fc1.weight  roi_head.bbox_head.0.shared_fcs.0.weight
  roi_heads.box_head.2.fc2.bias  roi_head.bbox_head.2.shared_fcs.1.bias
  roi_heads.box_predictor.1.cls_score.weight  roi_head.bbox_head.1.fc_cls.weight
  roi_heads.box_predictor.1.bbox_pred.bias  roi_head.bbox_head.1.fc_reg.bias
CenterNet2-F_R50_1x:
  roi_heads.box_head.fc1.weight  roi_head.bbox_head.shared_fcs.0.weight
  roi_heads.box_predictor.cls_score.bias  roi_head.bbox_head.fc_cls.bias
CenterNet-FPN_R50_1x:
  HEAD.cls_tower.3.bias  bbox_head.cls_convs.1.conv.bias
  HEAD.cls_logits.weight  bbox_head.conv_cls.weight
CenterNet2_X101-DCN_2x:
  backbone.bottom_up.res4.7.conv2_offset.bias  backbone.layer3.7.conv2.conv_offset.bias
  HEAD.bbox_tower.9.offset.weight  rpn_head.reg_convs.3.conv.conv_offset.weight
  HEAD.bbox_tower.9.conv.weight  rpn_head.reg_convs.3.conv.weight
CenterNet2_R2-101-DCN_896_4x:
  backbone.bottom_up.stem.conv1.3.weight  backbone.stem.3.weight
  backbone.bottom_up.stem.conv1.4.bias  backbone.stem.4.bias
  backbone.bottom_up.stem.bn1.weight  backbone.stem.7.weight
  backbone.bottom_up.res2.0.shortcut.1.norm.running_var  backbone.layer1.0.downsample.2.running_var
  backbone.bottom_up.res4.3.bns.2.weight  backbone.layer3.3.bns.2.weight
  backbone.bottom_up.res5.1.conv2_offsets.2.weight  backbone.layer4.1.convs.2.conv_offset.weight
CenterNet-S4_DLA_8x:
  backbone.base.level3.tree2.tree1.bn1.weight  backbone.level3.tree2.tree1.bn1.weight
  backbone.dla_up.ida_1.proj_2.offset.weight  neck.dla_up.ida_1.proj_2.conv.conv_offset.weight
  backbone.dla_up.ida_1.proj_2.conv.bias  neck.dla_up.ida_1.proj_2.conv.bias
  backbone.ida_up.up_2.weight  neck.ida_up.up_2.weight
  backbone.ida_up.node_2.actf.0.running_var  neck.ida_up.node_2.actf.0.running_var
CenterNet2_DLA-BiFPN-P5_640_16x:
  backbone.bottom_up.base_layer.0.weight  backbone.base_layer.0.weight
  backbone.resample.3.conv.bn.bias  neck.resample.3.conv.bn.bias
  backbone.cell.0.fnode.1.combine.resample.2.conv.conv.weight
    neck.cell.0.fnode.1.combine.resample.2.conv.conv.weight
  backbone.cell.2.fnode.7.combine.edge_weights  neck.cell.2.fnode.7.combine.edge_weights
CenterNet2_DLA-fcosBiFPN-P5_640_16x_ST:
  backbone.bottom_up.backbone.level5.root.conv.weight  backbone.level5.root.conv.weight
  backbone.bottom_up.dla6.reduction.norm.weight  neck.reduction.norm.weight
  backbone.repeated_bifpn.0.lateral_1_f1.bias  neck.cells.0.lateral_1_f1.bias
nuImages_CenterNet2_DLA_640_8x:
  roi_heads.mask_head.mask_fcn1.weight  roi_head.mask_head.convs.0.conv.weight
  roi_heads.mask_head.deconv.bias  roi_head.mask_head.upsample.bias
  roi_heads.mask_head.predictor.weight  roi_head.mask_head.conv_logits.weight
"""
BY_HAND = {
    model: re.findall(r'(\S+)\s+(\S+)', names.replace('HEAD.', HEAD))
    for model, names in re.findall(r'(\S+):\n((?: .*\n)+)', TABLE)
}


@pytest.mark.parametrize(
    'name, new',
    [
        ('fc1.bias', 'shared_fcs.0.bias'),
        ('fc1.gamma', None),
        ('fc1.extra.bias', None),
        ('fc10.bias', None),
        ('cell.3.fnode.weight', 'neck.cell.3.fnode.weight'),
        ('cells.3.weight', None),
        ('classifier.weight', ''),
        ('pixel_mean', ''),
        ('bias', None),
    ],
)
def test_rename(name, new):
    table = {'fc1': 'shared_fcs.0', 'cell.': 'neck.cell.', 'classifier': '', 'pixel_mean': ''}
    assert rename(name, table) == new
    if new:
        assert rename(new, reverse(table)) == name


@pytest.mark.parametrize('model', BY_HAND)
def test_names_written_by_hand(model):
    shapes = original_shapes()[model]
    table = key_map(find_network(shapes), shapes)
    for official, ours in BY_HAND[model]:
        assert official in shapes, 'the pair itself is wrong'
        assert rename(official, table) == ours
        assert rename(ours, reverse(table)) == official


@pytest.mark.parametrize('model', MODELS)
def test_every_name_has_a_place_and_comes_back(model):
    official = synthetic(model)
    conversion = convert_state_dict(official)
    assert conversion.unplaced == []
    assert sorted(conversion.extras) == EXTRAS.get(model, [])
    # One name here for each tensor there, and back the same bits in order.
    placed = len(official) - len(conversion.extras)
    assert len(conversion.state_dict) == placed + len(conversion.filled)
    assert same_bits(revert_state_dict(conversion.state_dict, conversion.meta()), official)
    # Without the meta only the extras are lost.
    kept = {name: value for name, value in official.items() if name not in conversion.extras}
    assert same_bits(revert_state_dict(conversion.state_dict), kept)


@pytest.mark.parametrize('row', NETWORKS.split('\n')[1:-1])
def test_network_and_config_are_found(row, capsys):
    model, backbone, neck, roi, *entry = row.split()
    stages = dict(none='one stage', single='one second stage', cascade='cascaded second stage')
    masks = ', masks' if model.startswith('nuImages') else ''
    network = (backbone, neck, stages[roi], masks)
    official = synthetic(model)
    assert find_network(official) == network
    conversion = convert_state_dict(official)
    assert find_network(conversion.state_dict, ours=True) == network
    find_config(conversion)
    assert capsys.readouterr().out == f'Found the network of {(entry or [model])[0]}\n'


def test_scale_becomes_a_scalar_and_a_wrong_shape_stays():
    official = synthetic('CenterNet2_R50_1x')
    name = HEAD + 'scales.0.scale'
    state = convert_state_dict(official).state_dict
    assert state['rpn_head.scales.0.scale'].shape == ()
    assert state['rpn_head.scales.0.scale'] == official[name][0]
    official[name] = torch.ones(2)
    state = convert_state_dict(official).state_dict
    assert state['rpn_head.scales.0.scale'].shape == (2,)


def test_frozen_norms_get_a_counter():
    conversion = convert_state_dict(synthetic('CenterNet2_R50_1x'))
    # 1 stem, 16 blocks of 3 convolutions, 4 shortcuts.
    assert len(conversion.filled) == 1 + 16 * 3 + 4
    counter = conversion.state_dict['backbone.bn1.num_batches_tracked']
    assert counter.dtype == torch.long and counter.shape == () and counter == 0


def test_counters_of_the_original_are_kept():
    official = synthetic('CenterNet2_R50_1x')
    name = 'backbone.bottom_up.stem.conv1.norm.num_batches_tracked'
    for count in (0, 7):
        official[name] = torch.tensor(count)
        conversion = convert_state_dict(official)
        state = conversion.state_dict
        assert state['backbone.bn1.num_batches_tracked'] == count
        assert same_bits(revert_state_dict(state, conversion.meta()), official)


def test_res2net_offsets_get_a_zero_bias_and_lose_it_again():
    conversion = convert_state_dict(synthetic('CenterNet2_R2-101-DCN_896_4x'))
    name = 'backbone.layer3.0.convs.0.conv_offset.bias'
    assert torch.equal(conversion.state_dict[name], torch.zeros(27))
    changed = dict(conversion.state_dict)
    changed[name] = torch.full((27,), 0.5)
    with pytest.raises(CheckpointError, match=name):
        revert_state_dict(changed, conversion.meta())


@pytest.mark.parametrize(
    'names, ours, hint',
    [
        ([], False, 'not a CenterNet'),
        (['stem.conv1.weight', 'res2.0.conv1.weight'], False, '--backbone-only'),
        (['neck.lateral_convs.0.conv.weight', 'rpn_head.conv_agn.bias'], False, 'no conversion'),
        ([HEAD + 'agn_hm.bias'], False, 'backbone of CenterNet2 found'),
        ([HEAD + 'agn_hm.bias', 'backbone.bottom_up.res2.0.conv1.weight'], False, 'neck of'),
        (original_shapes()['CenterNet2_R50_1x'], True, 'Leave out --reverse'),
    ],
)
def test_other_checkpoints_are_named(names, ours, hint):
    with pytest.raises(CheckpointError, match=hint):
        find_network(names, ours)


def _pattern(name: str) -> str:
    """A name with # for each number, and one name for the dense head."""
    name = re.sub(r'\{[^}]+\}|\d+', '#', name)
    return re.sub(r'^bbox_head\.', 'rpn_head.', name).replace('*', '')


def test_documented_names_are_those_of_the_models():
    text = (ROOT / 'docs' / 'convert.md').read_text(encoding='utf-8')
    documented = re.findall(r'^\| `(\S+)` \| `(\S+)` \|$', text, re.MULTILINE)
    used = set()
    for model in set(MODELS) - {'CenterNet2-F_R50_1x'}:  # without stage numbers
        shapes = original_shapes()[model]
        modules = {name[: dot.start()] for name in shapes for dot in re.finditer(r'\.', name)}
        for old, new in key_map(find_network(shapes), shapes).items():
            if new and old.rstrip('.') in modules:
                used.add((_pattern(old), _pattern(new)))
    found = [(_pattern(old), _pattern(new)) for old, new in documented]
    assert len(found) == len(set(found))
    assert set(found) == used
