"""Backbone and neck of an ONNX model in float16, everything else in float32.

Box coordinates do not fit into float16 (areas overflow, sides are rounded to
a pixel), so a network must not be computed in it as a whole. TensorRT of
today takes the types that the graph has, and no longer a wish for FP16.
"""
from typing import Dict, List, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

#: Beginnings of the names of the nodes that are changed.
SCOPES = ('/backbone/', '/neck/')
#: Computed in float32 all the same, and inputs that have to be float32.
KEPT = ('DeformConv', 'Cast', 'Shape', 'Constant')
FLOAT_INPUTS = {'Resize': (1, 2)}


def half_features(model: onnx.ModelProto,
                  scopes: Sequence[str] = SCOPES) -> onnx.ModelProto:
    """Change the types inside the scopes; casts at their borders.

    Args:
        model (onnx.ModelProto): In float32. Not changed.
        scopes (Sequence[str]): Beginnings of the names of nodes.

    Returns:
        onnx.ModelProto: The same inputs and outputs.

    Raises:
        ValueError: If there is no node in the scopes.
    """
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    graph = model.graph
    floats = {
        value.name
        for value in (*graph.value_info, *graph.input, *graph.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    weights = {tensor.name: tensor for tensor in graph.initializer
               if tensor.data_type == TensorProto.FLOAT}
    inside = {
        node.output[0]: node
        for node in graph.node
        if node.name.startswith(tuple(scopes)) and node.op_type not in KEPT
    }
    if not inside:
        raise ValueError(f'no node of the model begins with {scopes}')
    made = {name for node in inside.values() for name in node.output
            if name in floats}
    half: Dict[str, str] = {}
    nodes: List[NodeProto] = []
    for node in graph.node:
        if node.output[0] in inside:
            _enter(node, floats, weights, made, half, nodes, graph)
        nodes.append(node)
    nodes = _leave(nodes, inside, made, {v.name for v in graph.output})
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # types have changed
    used = {name for node in graph.node for name in node.input}
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    return model


def _enter(node: NodeProto, floats: set, weights: dict, made: set,
           half: Dict[str, str], nodes: List[NodeProto],
           graph: onnx.GraphProto) -> None:
    """Give a node float16 inputs: other weights, or a cast in front."""
    for index, name in enumerate(node.input):
        if (name in made or index in FLOAT_INPUTS.get(node.op_type, ())
                or name not in weights and name not in floats):
            continue
        if name not in half:
            half[name] = f'{name}_half'
            if name in weights:
                array = numpy_helper.to_array(weights[name])
                graph.initializer.append(numpy_helper.from_array(
                    array.astype(np.float16), half[name]))
            else:
                nodes.append(helper.make_node(
                    'Cast', [name], [half[name]], f'{name}_to_half',
                    to=TensorProto.FLOAT16))
        node.input[index] = half[name]


def _leave(nodes: List[NodeProto], inside: Dict[str, NodeProto], made: set,
           outputs: set) -> List[NodeProto]:
    """Cast what is read outside back to float32, under its own name."""
    read = outputs | {
        name for node in nodes if node.output[0] not in inside
        for name in node.input
    }
    border = made & read
    result = []
    for node in nodes:
        result.append(node)
        if node.output[0] not in inside:
            continue
        for index, name in enumerate(node.input):
            if name in border:
                node.input[index] = f'{name}_in_half'
        for index, name in enumerate(node.output):
            if name in border:
                node.output[index] = f'{name}_in_half'
                result.append(helper.make_node(
                    'Cast', [f'{name}_in_half'], [name], f'{name}_to_float',
                    to=TensorProto.FLOAT))
    return result
