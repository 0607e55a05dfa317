"""The last steps of an export, on the file that has been written.

mmdeploy calls these hooks before and after its ``export``, also in the
processes that its own tools start. Other models' exports are left alone.
"""

from collections.abc import Sequence
from typing import Any

import mmdeploy.apis.onnx  # noqa: F401  registers the pipeline
import numpy as np
import onnx
from mmdeploy.apis.core import PIPELINE_MANAGER
from onnx import TensorProto, helper, numpy_helper

from .metadata import write_metadata

EXPORT = 'mmdeploy.apis.onnx.export.export'
#: Beginnings of the names of the nodes of backbone and neck.
SCOPES = ('/backbone/', '/neck/')
#: Computed in float32 all the same, and inputs that have to be float32.
KEPT = ('DeformConv', 'Cast', 'Shape', 'Constant')
FLOAT_INPUTS = {'Resize': (1, 2)}

#: Arguments of :func:`finish_file` for the export that is running.
_running: tuple[str, dict, bool] | None = None


def remember_export(model: Any, args: Any, *rest: Any, **kwargs: Any) -> tuple[tuple, dict]:
    """Note which file is written; the arguments are those of ``export``."""
    global _running
    _running = None
    if hasattr(model, 'deploy_metadata'):
        prefix = rest[0] if rest else kwargs['output_path_prefix']
        _running = f'{prefix}.onnx', model.deploy_metadata, model.deploy_half_features
    return (model, args, *rest), kwargs


def finish_export(result: Any) -> Any:
    """Finish the file that has been written."""
    global _running
    if _running is not None:
        finished, _running = _running, None
        finish_file(*finished)
    return result


PIPELINE_MANAGER.get_input_hooks(EXPORT).append(remember_export)
PIPELINE_MANAGER.get_output_hooks(EXPORT).append(finish_export)


def finish_file(path: str, metadata: dict, half: bool) -> None:
    """Add metadata to an ONNX file; with ``half``, see :func:`half_features`."""
    model = onnx.load(path)
    if half:
        model = half_features(model)
    write_metadata(model, metadata)
    onnx.save(model, path)


def half_features(model: onnx.ModelProto, scopes: Sequence[str] = SCOPES) -> onnx.ModelProto:
    """A copy of a float32 model; nodes whose names begin with ``scopes`` compute in float16.

    Box coordinates do not fit into float16: areas overflow, sides are rounded
    to a pixel. onnxconverter-common (1.16) is no help: it casts every value
    that several float32 nodes read to float16 and back.

    Raises:
        ValueError: If there is no such node.
    """
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = model.graph
    weights = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    values = (*graph.value_info, *graph.input, *graph.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    floats.update(weights)
    made = {
        name
        for node in graph.node
        if node.name.startswith(tuple(scopes)) and node.op_type not in KEPT
        for name in node.output
    } & floats
    if not made:
        raise ValueError(f'no node of the model begins with {scopes}')
    nodes: list[onnx.NodeProto] = []
    half: dict[str, str] = {}  # names of values in float16

    def cast(source: str, target: str, dtype: int) -> None:
        nodes.append(helper.make_node('Cast', [source], [target], f'{target}_cast', to=dtype))

    def in_half(name: str) -> str:
        """The name of a value in float16, made if it is not there yet."""
        if name not in half:
            half[name] = f'{name}_half'
            if name in weights:
                array = numpy_helper.to_array(weights[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(array, half[name]))
            else:
                cast(name, half[name], TensorProto.FLOAT16)
        return half[name]

    for node in graph.node:
        for i, name in enumerate(node.input if made.intersection(node.output) else ()):
            if name in floats and i not in FLOAT_INPUTS.get(node.op_type, ()):
                node.input[i] = in_half(name)
        nodes.append(node)
        for i, name in enumerate(node.output):
            if name in made:
                node.output[i] = half[name] = f'{name}_half'
                cast(half[name], name, TensorProto.FLOAT)
    used = {name for node in nodes for name in node.input} | {v.name for v in graph.output}
    # Of values that are read in float16 only, the cast back is left out.
    nodes = [node for node in nodes if used.intersection(node.output)]
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.value_info[:], graph.initializer[:]  # types have changed
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return model
