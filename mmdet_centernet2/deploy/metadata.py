"""What an exported file says about itself; ``runtime.model_info`` has the schema."""

import json
from collections.abc import Sequence

import onnx
from mmdeploy.codebase.mmdet.deploy.object_detection import _get_dataset_metainfo
from mmdeploy.utils import get_codebase_config
from mmengine.config import Config, ConfigDict

from mmdet_centernet2.runtime.errors import ModelFileError
from mmdet_centernet2.runtime.model_info import KEY, SCHEMA, ModelInfo

from ..checkpoint.match import num_classes_of
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
    masks = bool(model.get('roi_head', {}).get('mask_head'))
    info = dict(
        schema=SCHEMA,
        package=__version__,
        **_classes(model_cfg),
        **_pipeline(test_pipeline(model_cfg)),
        mean=preprocessor.get('mean'),
        std=preprocessor.get('std'),
        bgr_to_rgb=preprocessor.get('bgr_to_rgb', False),
        pad_divisor=preprocessor.get('pad_size_divisor', 1),
        pad_value=preprocessor.get('pad_value', 0),
        task='mask' if masks else 'bbox',
        score_thr=cfg.get('score_thr', 0),
        mask_thr=cfg.get('mask_thr_binary', 0.5),
        image_size_input=wants_image_sizes(deploy_cfg),
    )
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
    num_classes = max(count for _, count in num_classes_of(model_cfg.model))
    info = _get_dataset_metainfo(model_cfg) or {}
    names = info.get('classes') or [str(i) for i in range(num_classes)]
    names = [names] if isinstance(names, str) else list(names)
    if len(names) != num_classes:
        raise ValueError(
            f'the model has {num_classes} classes, but its data set names {len(names)}: set '
            'metainfo=dict(classes=...) of the test data set, or num_classes of the head'
        )
    palette = info.get('palette')
    fits = isinstance(palette, (list, tuple)) and len(palette) >= len(names)
    return dict(classes=names, palette=[list(map(int, c)) for c in palette] if fits else None)


def _pipeline(transforms: Sequence[ConfigDict]) -> dict:
    """How a test image is read and resized."""
    steps = {transform['type'].split('.')[-1]: transform for transform in transforms}
    resize = steps.get('ResizeShortestEdge') or steps.get('Resize')
    if resize is None:
        raise ValueError(
            f'the test pipeline has neither Resize nor ResizeShortestEdge ({", ".join(steps)}): '
            'the exported file could not say how to prepare images'
        )
    return dict(
        decoder=steps.get('LoadImageFromFile', {}).get('imdecode_backend', 'cv2'),
        resize=dict(
            **_sides(resize),
            backend=resize.get('backend', 'cv2'),
            interpolation=resize.get('interpolation', 'bilinear'),
        ),
    )


def _sides(resize: ConfigDict) -> dict:
    """The sizes that a ``ResizeShortestEdge`` or a ``Resize`` gives, mmdet's or ours."""
    scale = resize['scale']
    if resize['type'].endswith('ResizeShortestEdge'):
        short = scale if isinstance(scale, int) else min(scale)
        return dict(scale=[short, resize.get('max_size') or 0], keep_ratio=True, short_side=True)
    keep_ratio = resize.get('keep_ratio', False)
    ours = keep_ratio and resize.get('_scope_') == SCOPE
    if ours and resize.get('rounding', 'nearest') == 'nearest':
        return dict(scale=sorted(scale), keep_ratio=True, short_side=True)
    return dict(scale=list(scale), keep_ratio=keep_ratio, short_side=False, round_down=ours)
