"""Small models of every family, exported the way mmdeploy does it."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmdeploy.apis.onnx import export
from mmdeploy.utils import get_backend, get_dynamic_axes, get_ir_config
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmengine.utils import digit_version
from torch import Tensor, nn

from mmdet_centernet2.deploy import enable
from mmdet_centernet2.deploy.metadata import write_metadata
from mmdet_centernet2.deploy.task import CenterNet2Detection
from mmdet_centernet2.runtime import KEY
from tests.paths import CONFIGS

enable()
WIDTH = 32
_RESNET = {'backbone.depth': 18, 'backbone.style': 'pytorch', 'neck.in_channels': [128, 256, 512]}
_NECK = {'neck.out_channels': WIDTH}
_BOTTLENECKS = {
    'backbone.depth': 50,
    'backbone.base_channels': 8,
    'backbone.stem_channels': 8,
    'neck.in_channels': [64, 128, 256],
}
_TWO_STAGES = {
    'rpn_head.in_channels': WIDTH,
    'rpn_head.norm_cfg.num_groups': 8,
    'roi_head.bbox_roi_extractor.out_channels': WIDTH,
    'roi_head.bbox_head.in_channels': WIDTH,
    'roi_head.bbox_head.fc_out_channels': 64,
    'test_cfg.rpn.nms_pre': 100,
    'test_cfg.rpn.max_per_img': 32,
    'test_cfg.rcnn.max_per_img': 20,
}
_BIFPN = {**_NECK, 'neck.num_cells': 1, 'neck.norm_cfg.num_groups': 8}
_LIGHT_HEAD = {'rpn_head.stacked_convs': 1}

#: Family -> config below ``configs/`` and what is made smaller in its model.
FAMILIES: dict[str, tuple[str, dict]] = {
    'one stage, FPN': (
        'centernet/centernet_r50-caffe_fpn_ms-1x_coco.py',
        {
            **_RESNET,
            **_NECK,
            'bbox_head.in_channels': WIDTH,
            'bbox_head.stacked_convs': 1,
            'bbox_head.norm_cfg.num_groups': 8,
            'test_cfg.nms_pre': 100,
            'test_cfg.max_per_img': 20,
        },
    ),
    'one stage, stride 4, DLA': (
        'centernet/centernet-s4_dla34_crop640-8x_coco.py',
        {'test_cfg.nms_pre': 100, 'test_cfg.max_per_img': 20},
    ),
    'single second stage': (
        'centernet2/centernet2-faster_r50-caffe_fpn_ms-1x_coco.py',
        {**_RESNET, **_NECK, **_TWO_STAGES, **_LIGHT_HEAD},
    ),
    'cascade': (
        'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py',
        {**_RESNET, **_NECK, **_TWO_STAGES},
    ),
    'DLA, FCOS-BiFPN, P3': (
        'centernet2/centernet2_dla34_fcos-bifpn-p3_ms-4x_coco.py',
        {**_BIFPN, **_TWO_STAGES, **_LIGHT_HEAD},
    ),
    'DLA, FCOS-BiFPN, P5': (
        'centernet2/centernet2_dla34_fcos-bifpn-p5_crop640-24x-st_coco.py',
        {**_BIFPN, **_TWO_STAGES, **_LIGHT_HEAD},
    ),
    'DLA, BiFPN, P5': (
        'centernet2/centernet2_dla34_bifpn-p5_crop640-16x_coco.py',
        {**_BIFPN, **_TWO_STAGES, **_LIGHT_HEAD},
    ),
    'Res2Net, DCN, BiFPN': (
        'centernet2/centernet2_r2-101-mdconv-c4-c5_bifpn_crop1280-4x_coco.py',
        {**_BOTTLENECKS, **_BIFPN, **_TWO_STAGES, **_LIGHT_HEAD},
    ),
    'X101, DCN': (
        'centernet2/centernet2_x101-32x8d-mdconv-c4-c5_fpn_ms-2x_coco.py',
        {**_BOTTLENECKS, **_NECK, **_TWO_STAGES, **_LIGHT_HEAD, 'backbone.groups': 4},
    ),
    'LVIS, sigmoid': (
        'centernet2/centernet2-fed_r50-caffe_fpn_ms-rfs-1x_lvis-v1.py',
        {
            **_RESNET,
            **_NECK,
            **_TWO_STAGES,
            **_LIGHT_HEAD,
            # times 1,203 classes
            'test_cfg.rpn.max_per_img': 8,
        },
    ),
    'masks': (
        'centernet2/centernet2-mask_dla34_crop640-8x_nuimages.py',
        {
            'test_cfg.rpn.nms_pre': 100,
            'test_cfg.rpn.max_per_img': 32,
            'test_cfg.rcnn.max_per_img': 20,
            'roi_head.bbox_head.fc_out_channels': 64,
            'roi_head.mask_head.conv_out_channels': 16,
        },
    ),
}


class Images(NamedTuple):
    """A padded batch (B, 3, H, W), and (height, width) of each without the padding."""

    inputs: Tensor
    shapes: list[tuple[int, int]]

    @property
    def sizes(self) -> Tensor:
        """The graph's second input."""
        return torch.tensor(self.shapes, dtype=torch.float32)

    def samples(self) -> list[DetDataSample]:
        """What the detector is told about them; the originals are larger."""
        return [
            DetDataSample(
                metainfo=dict(
                    img_shape=shape,
                    ori_shape=(2 * shape[0], 4 * shape[1]),
                    scale_factor=(0.25, 0.5),
                )
            )
            for shape in self.shapes
        ]


def make_images(shapes: Sequence[tuple[int, int]], divisor: int = 128, seed: int = 0) -> Images:
    """Blocks of random colours, padded with zeros to one size."""
    rng = np.random.RandomState(seed)
    height, width = (-(-max(side) // divisor) * divisor for side in zip(*shapes))
    inputs = torch.zeros(len(shapes), 3, height, width)
    for image, (rows, columns) in zip(inputs, shapes):
        blocks = rng.randn(3, -(-rows // 16), -(-columns // 16))
        picture = np.kron(blocks, np.ones((16, 16)))[:, :rows, :columns]
        image[:, :rows, :columns] = torch.from_numpy(picture)
    return Images(inputs, list(shapes))


def batches(family: str) -> list[Images]:
    """One image, and two of different sizes: not what graphs are made from."""
    divisor = 128 if 'P5' in family or 'Res2Net' in family else 32
    shapes = [(96, 160)], [(122, 100), (128, 112)]
    return [make_images(each, divisor, seed=3) for each in shapes]


def tiny_cfg(family: str, **options: object) -> Config:
    """Config of a small model; options are keys of ``model`` with ``__`` for dots."""
    name, changes = FAMILIES[family]
    cfg = Config.fromfile(CONFIGS / name)
    changes = {
        **changes,
        **{key.replace('__', '.'): value for key, value in options.items()},
        'backbone.init_cfg': None,
    }
    cfg.merge_from_dict({f'model.{k}': v for k, v in changes.items()})
    return cfg


def kind_of(family: str) -> str:
    """How the names of its deploy configs begin."""
    return 'instance-seg' if family == 'masks' else 'detection'


def deploy_cfg(name: str, **ir_config: object) -> Config:
    """One of ``configs/deploy``."""
    cfg = Config.fromfile(CONFIGS / 'deploy' / f'{name}.py')
    cfg.merge_from_dict(dict(ir_config=ir_config))
    return cfg


@torch.no_grad()
def awaken(model: nn.Module) -> None:
    """Weights with which something is found, of many sizes and classes."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.8, 1.2)
        if hasattr(module, 'conv_offset'):
            nn.init.normal_(module.conv_offset.weight, std=0.05)
            nn.init.normal_(module.conv_offset.bias, std=0.5)
    head = getattr(model, 'rpn_head', None) or model.bbox_head
    predictor = getattr(head, head.heat_predictor)
    nn.init.normal_(predictor.weight, std=0.1)
    nn.init.constant_(predictor.bias, -1.0)
    nn.init.normal_(head.conv_reg.weight, std=0.1)
    nn.init.constant_(head.conv_reg.bias, 2.0)
    for name, module in model.named_modules():
        if name.endswith('fc_cls'):
            nn.init.normal_(module.weight, std=0.8)
        elif name.endswith('fc_reg'):
            nn.init.normal_(module.weight, std=0.1)


def build(cfg: Config, deploy: Config, seed: int = 0) -> nn.Module:
    """A small model that finds something, in evaluation mode."""
    torch.manual_seed(seed)
    model = CenterNet2Detection(cfg, deploy, 'cpu').build_pytorch_model()
    awaken(model)
    return model


def export_model(model: nn.Module, deploy: Config, images: Images, folder: Path) -> str:
    """Do what mmdeploy's ``torch2onnx`` does with a built model; give the file."""
    ir_config = get_ir_config(deploy)
    names = ir_config['input_names'] + ir_config['output_names']
    inputs = [images.inputs, images.sizes][: len(ir_config['input_names'])]
    export(
        model,
        tuple(inputs),
        str(folder / 'end2end'),
        input_metas=dict(data_samples=images.samples(), mode='predict'),
        backend=get_backend(deploy).value,
        input_names=ir_config['input_names'],
        output_names=ir_config['output_names'],
        context_info=dict(deploy_cfg=deploy),
        opset_version=ir_config['opset_version'],
        dynamic_axes=get_dynamic_axes(deploy, names),
        keep_initializers_as_inputs=False,
    )
    return str(folder / 'end2end.onnx')


@functools.lru_cache(maxsize=2)
def open_onnx(path: str, more: tuple[str, ...]) -> onnxruntime.InferenceSession:
    """A file in onnxruntime that gives the values ``more``, too."""
    model = onnx.load(path)
    operators = {node.op_type for node in model.graph.node}
    if 'DeformConv' in operators and digit_version(onnxruntime.__version__) < digit_version('1.25'):
        pytest.skip('onnxruntime has DeformConv from 1.25 on, which needs Python 3.11')
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in more)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=['CPUExecutionProvider']
    )


def run_onnx(path: str, images: Images, *more: str) -> dict[str, Tensor]:
    """Run a file in onnxruntime; ``more`` names inner values to return, too."""
    session = open_onnx(path, more)
    feeds = dict(input=images.inputs.numpy(), image_sizes=images.sizes.numpy())
    wanted = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    outputs = session.run(None, {k: feeds[k] for k in wanted})
    return {n: torch.from_numpy(o) for n, o in zip(names, outputs)}


@torch.no_grad()
def run_torch(model: nn.Module, images: Images) -> list[InstanceData]:
    """Detections in pixels of the network's input."""
    samples = model.predict(images.inputs.clone(), images.samples(), rescale=False)
    return [sample.pred_instances for sample in samples]


def assert_same(
    ours: dict[str, Tensor], theirs: list[InstanceData], pixels: float = 0.01, score: float = 1e-4
) -> None:
    """Every detection of PyTorch is among the graph's once, and nothing else."""
    for dets, labels, wanted in zip(ours['dets'], ours['labels'], theirs):
        present = dets[:, 4] > 0
        assert (labels[~present] == -1).all()
        assert (dets[~present] == 0).all()
        # what clipping empties goes after the graph
        present &= (dets[:, 2:4] > dets[:, :2]).all(-1)
        dets, labels = dets[present], labels[present]
        assert len(dets) == len(wanted)
        assert (dets[1:, 4] <= dets[:-1, 4]).all()
        left = list(range(len(dets)))
        for box, value, label in zip(wanted.bboxes, wanted.scores, wanted.labels):
            match = [
                i
                for i in left
                if labels[i] == label
                and (dets[i, :4] - box).abs().max() < pixels
                and abs(dets[i, 4] - value) < score
            ]
            assert match, (box, value, label)
            left.remove(match[0])


def assert_same_masks(model: nn.Module, images: Images, ours: dict[str, Tensor]) -> None:
    """Masks of the graph's own boxes, by PyTorch's mask branch."""
    dets, labels = ours['dets'], ours['labels']
    numbers = torch.arange(len(dets)).view(-1, 1, 1).expand(-1, dets.size(1), 1)
    rois = torch.cat([numbers.float(), dets[..., :4]], -1).reshape(-1, 5)
    with torch.no_grad():
        feats = model.extract_feat(images.inputs)
        logits = model.roi_head._mask_forward(feats, rois)['mask_preds']
    probs = logits[torch.arange(len(rois)), labels.reshape(-1).clamp(min=0)]
    wanted = probs.sigmoid().view_as(ours['masks'])
    present = dets[..., 4] > 0
    assert (ours['masks'] - wanted)[present].abs().max() < 1e-4


def set_resize(path: str, target: Path, **resize: object) -> dict:
    """Copy a file; in its metadata, which are returned, images are resized otherwise."""
    model = onnx.load(path)
    info = json.loads({entry.key: entry.value for entry in model.metadata_props}[KEY])
    info['resize'].update(resize)
    write_metadata(model, info)
    onnx.save(model, target)
    return info


def find_node(path: str, start: str, kind: str) -> str | None:
    """The first output of the first node of a kind whose name starts so."""
    for node in onnx.load(path).graph.node:
        if node.op_type == kind and node.name.startswith(start):
            return node.output[0]
    return None
