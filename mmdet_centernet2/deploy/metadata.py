"""What an exported file says about itself; ``runtime.model_info`` has the schema."""

import json
from collections.abc import Sequence

import onnx
from mmdeploy.codebase.mmdet.deploy.object_detection import _get_dataset_metainfo
from mmdeploy.utils import get_codebase_config, is_dynamic_shape
from mmengine.config import Config, ConfigDict

from mmdet_centernet2.runtime.errors import ModelFileError
from mmdet_centernet2.runtime.model_info import KEY, SCHEMA, ModelInfo

from ..registry import SCOPE
from ..version import __version__


def build_metadata(model_cfg: Config, deploy_cfg: Config) -> dict:
    """Everything between an image and named boxes, see ``ModelInfo``.

    Raises:
        ValueError: If the test pipeline does not resize, the names of the
            classes do not fit the model, or the runtime could not read it.
    """
    model = model_cfg.model
    preprocessor = model.data_preprocessor
    cfg = model.test_cfg.get('rcnn', model.test_cfg)
    info = dict(
        schema=SCHEMA,
        package=__version__,
        **_classes(model_cfg),
        **_pipeline(test_pipeline(model_cfg)),
        **{
            key: preprocessor.get(key) and [float(v) for v in preprocessor[key]]
            for key in ('mean', 'std')
        },
        bgr_to_rgb=bool(preprocessor.get('bgr_to_rgb', False)),
        pad_divisor=int(preprocessor.get('pad_size_divisor', 1)),
        pad_value=float(preprocessor.get('pad_value', 0)),
        task='bbox',
        score_thr=float(cfg.get('score_thr', 0)),
        image_size_input=wants_image_sizes(deploy_cfg),
        dynamic=is_dynamic_shape(deploy_cfg),
    )
    if model.get('roi_head', {}).get('mask_head'):
        info.update(task='mask', mask_thr=float(cfg.mask_thr_binary))
    try:
        ModelInfo.from_metadata({KEY: json.dumps(info)}, 'the file to write')
    except ModelFileError as error:
        raise ValueError(f'the config cannot be exported: {error}') from error
    return info


def write_metadata(model: onnx.ModelProto, metadata: dict) -> None:
    """Put it into a model, replacing what was there."""
    entries = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**entries, KEY: json.dumps(metadata)})


def wants_image_sizes(deploy_cfg: Config) -> bool:
    """Whether the graph has the second input."""
    return bool(get_codebase_config(deploy_cfg).get('image_size_input', True))


def test_pipeline(model_cfg: Config) -> list[ConfigDict]:
    """The transforms of a test image."""
    return model_cfg.get('test_pipeline') or model_cfg.test_dataloader.dataset.pipeline


def _classes(model_cfg: Config) -> dict:
    """Names and colours; numbers where the config names no data set."""
    model = model_cfg.model
    head = model.roi_head.bbox_head if 'roi_head' in model else model.bbox_head
    num_classes = int((head[0] if isinstance(head, list) else head).num_classes)
    info = _get_dataset_metainfo(model_cfg) or {}
    names = info.get('classes') or [str(i) for i in range(num_classes)]
    names = [names] if isinstance(names, str) else list(names)
    if len(names) != num_classes:
        raise ValueError(
            f'the model has {num_classes} classes, but its data set names {len(names)}: set '
            'metainfo=dict(classes=...) of the test data set, or num_classes of the head'
        )
    palette = info.get('palette')
    if not isinstance(palette, (list, tuple)) or len(palette) < len(names):
        return dict(classes=names, palette=None)
    return dict(classes=names, palette=[[int(c) for c in p] for p in palette])


def _pipeline(transforms: Sequence[ConfigDict]) -> dict:
    """How a test image is read and resized."""
    info = dict(decoder='cv2')
    for transform in transforms:
        kind = transform['type'].split('.')[-1]
        if kind == 'LoadImageFromFile':
            info['decoder'] = transform.get('imdecode_backend', 'cv2')
        elif kind in ('Resize', 'ResizeShortestEdge'):
            info['resize'] = dict(
                **_resize(kind, transform),
                backend=transform.get('backend', 'cv2'),
                interpolation=transform.get('interpolation', 'bilinear'),
            )
    if 'resize' not in info:
        raise ValueError(
            'the test pipeline has neither Resize nor ResizeShortestEdge '
            f'({", ".join(t["type"] for t in transforms)}): the exported file could not say how '
            'to prepare images'
        )
    return info


def _resize(kind: str, transform: ConfigDict) -> dict:
    """What a ``ResizeShortestEdge`` or a ``Resize`` does, mmdet's or ours."""
    scale = transform['scale']
    if kind == 'ResizeShortestEdge':
        short = int(scale if isinstance(scale, int) else min(scale))
        scale = [short, transform.get('max_size') or 0]
        return dict(scale=scale, keep_ratio=True, short_side=True)
    scale = [int(side) for side in scale]
    keep_ratio = bool(transform.get('keep_ratio', False))
    ours = keep_ratio and transform.get('_scope_') == SCOPE
    if ours and transform.get('rounding', 'nearest') == 'nearest':
        return dict(scale=sorted(scale), keep_ratio=True, short_side=True)
    return dict(scale=scale, keep_ratio=keep_ratio, short_side=False, round_down=ours)
