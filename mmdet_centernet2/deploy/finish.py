"""The last steps of an export, on the file that has been written.

mmdeploy calls hooks before and after its ``export``; so they also run in the
processes that its own tools start.
"""
from typing import Any, Optional, Tuple

import onnx
from mmdeploy.apis.core import PIPELINE_MANAGER

from .half_features import half_features
from .metadata import write_metadata

EXPORT = 'mmdeploy.apis.onnx.export.export'

#: File, metadata and ``half_features`` of the export that is running, if it is
#: one of ours.
_running: Optional[Tuple[str, dict, bool]] = None


def install() -> None:
    """Register the hooks; again changes nothing."""
    import mmdeploy.apis.onnx  # noqa: F401  registers the pipeline
    before = PIPELINE_MANAGER.get_input_hooks(EXPORT)
    if remember_export not in before:
        before.append(remember_export)
        PIPELINE_MANAGER.get_output_hooks(EXPORT).append(finish_export)


def remember_export(model: Any, args: Any, *rest: Any,
                    **kwargs: Any) -> Tuple[tuple, dict]:
    """Note which file is written; see mmdeploy's ``export``."""
    global _running
    metadata = getattr(model, 'deploy_metadata', None)
    prefix = rest[0] if rest else kwargs['output_path_prefix']
    half = getattr(model, 'deploy_half_features', False)
    _running = None
    if metadata is not None:
        _running = (prefix + '.onnx', metadata, half)
    return (model, args, *rest), kwargs


def finish_export(result: Any) -> Any:
    """Finish the file that has been written."""
    global _running
    if _running is not None:
        finished, _running = _running, None
        finish_file(*finished)
    return result


def finish_file(path: str, metadata: dict, half: bool = False) -> None:
    """Let a file say what it is.

    Args:
        path (str): The ONNX file, changed in place.
        metadata (dict): See :func:`build_metadata`.
        half (bool): Whether backbone and neck become float16, see
            :func:`half_features`. Defaults to False.
    """
    model = onnx.load(path)
    drop_prefix(model.graph)
    if half:
        model = half_features(model)
    write_metadata(model, metadata)
    onnx.save(model, path)


def drop_prefix(graph: onnx.GraphProto) -> None:
    """Name nodes and values by the detector's own modules.

    The detector is inside :class:`DetectorWithSizes`; so ``/backbone/...``
    is what a reader, or a tool that picks nodes by name, expects.
    """

    def short(name: str) -> str:
        for prefix, left in (('/detector/', '/'), ('detector.', '')):
            if name.startswith(prefix):
                return left + name[len(prefix):]
        return name

    for node in graph.node:
        node.name = short(node.name)
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    for value in (*graph.initializer, *graph.value_info):
        value.name = short(value.name)
