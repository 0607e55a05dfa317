"""What TensorRT's documents say of ONNX graphs, checked without TensorRT.

Sources: the support matrices of its ONNX parser (onnx-tensorrt,
``docs/operators.md``) and the developer guide's chapter on dynamic shapes. A
graph without findings has not been run; it holds nothing known to stop it.
"""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

MAX_K = 3840  # of TopK
MAX_FOLDED = 4096  # larger constants are not evaluated

# Of the operators of onnx-tensorrt 8.5, those that a detector may contain.
SINCE_8_6 = frozenset(
    """
    Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat
    Constant ConstantOfShape Conv ConvTranspose DequantizeLinear Div Equal Exp
    Expand Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool
    Greater GreaterOrEqual Identity InstanceNormalization LeakyRelu Less
    LessOrEqual Log MatMul Max MaxPool Min Mod Mul Neg NonMaxSuppression
    NonZero Not Or Pad Pow QuantizeLinear Range Reciprocal ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum Relu Reshape Resize RoiAlign Round
    ScatterElements ScatterND Shape Sigmoid Sign Slice Softmax Split Sqrt
    Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Where Xor""".split()
)
#: Release -> highest opset, operators.
RELEASES = {
    '8.6': (17, SINCE_8_6),
    '10.1': (20, SINCE_8_6 | {'CastLike', 'DeformConv', 'Gelu', 'Hardmax'}),
}
#: Inputs that decide the shape of the output.
SHAPE_INPUTS = dict(ConstantOfShape=(0,), Expand=(1,), Pad=(1, 3), Range=(0, 1, 2), Reshape=(1,))
SHAPE_INPUTS |= dict(Resize=(2, 3), Slice=(1, 2, 4), Split=(1,), Tile=(1,))
#: Inputs that must be known when the engine is built.
REDUCTIONS = ('ReduceMax', 'ReduceMean', 'ReduceMin', 'ReduceSum')
CONSTANT_INPUTS = dict(NonMaxSuppression=(2, 3, 4), Slice=(3,), Squeeze=(1,), Unsqueeze=(1,))
CONSTANT_INPUTS |= {kind: (1,) for kind in REDUCTIONS}
DATA_DEPENDENT = ('NonZero', 'NonMaxSuppression', 'Unique', 'Compress')
COORDINATES = b'half_pixel pytorch_half_pixel tf_half_pixel_for_nn asymmetric align_corners'
#: Attributes that TensorRT takes in some values only; the first is the default.
ATTRIBUTES = dict(
    TopK=dict(sorted=(1,)),
    Resize=dict(
        mode=(b'nearest', b'linear'),
        antialias=(0,),
        keep_aspect_ratio_policy=(b'stretch',),
        coordinate_transformation_mode=tuple(COORDINATES.split()),
    ),
    ScatterND=dict(reduction=(b'none',)),
)
NO_BOOL = """ArgMax ArgMin Equal Max Min Pad ReduceMax ReduceMin ReduceSum
    ScatterElements ScatterND TopK""".split()
COMPUTED = [getattr(TensorProto, t) for t in 'FLOAT FLOAT16 BFLOAT16 INT32 INT64 BOOL'.split()]


def check_tensorrt(model: str | onnx.ModelProto, release: str = '10.1') -> list[tuple[str, str]]:
    """Rules that a model breaks, each with the node that breaks it."""
    if isinstance(model, str):
        model = onnx.load(model)
    max_opset, operators = RELEASES[release]
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    tensors = Tensors(graph)
    found = []
    if not 9 <= model.opset_import[0].version <= max_opset:
        found.append(('opset', ''))
    if release == '8.6':  # clamps INT64 to INT32; Slice's ends may be clamped
        ends = {name for node in graph.node if node.op_type == 'Slice' for name in node.input}
        found += [
            ('int64', name)
            for name, value in tensors.constants.items()
            if value is not None
            and value.dtype == np.int64
            and name not in ends
            and (abs(value) > np.iinfo(np.int32).max).any()
        ]
    for node in graph.node:
        rules = broken_rules(node, tensors, operators)
        found += [(rule, f'{node.op_type} {node.name}') for rule in rules]
    return found


class Tensors:
    """What is known of a graph's tensors before it runs.

    ``constants`` has their values (None for large ones), ``data`` names those
    that depend on the values of the inputs.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        values = (*graph.value_info, *graph.output, *graph.input)
        self.dtypes = {v.name: v.type.tensor_type.elem_type for v in values}
        self.dtypes.update((t.name, t.data_type) for t in graph.initializer)
        self.shapes = {
            v.name: [side.dim_value for side in v.type.tensor_type.shape.dim]
            for v in values
            if all(side.HasField('dim_value') for side in v.type.tensor_type.shape.dim)
        }
        self.constants = {t.name: small(t) for t in graph.initializer}
        self.data = {v.name for v in graph.input} - set(self.constants)
        self.ragged = set()  # of a shape that depends on values
        self.consumers = {}
        for node in graph.node:
            self.visit(node)

    def visit(self, node: NodeProto) -> None:
        for name in node.input:
            self.consumers.setdefault(name, []).append(node)
        if self.fold(node):
            return
        scatter = node.op_type.startswith('Scatter')  # shape of its first
        if node.op_type in DATA_DEPENDENT or self.ragged.intersection(
            node.input[:1] if scatter else node.input
        ):
            self.ragged.update(node.output)
        sources = self.ragged if node.op_type == 'Shape' else self.data
        if sources.intersection(node.input):
            self.data.update(node.output)

    def fold(self, node: NodeProto) -> bool:
        """Evaluate a node that depends on nothing; whether it is one."""
        names = [name for name in node.input if name]
        if node.op_type == 'Constant':
            value = helper.get_attribute_value(node.attribute[0])
            values = [small(value) if isinstance(value, TensorProto) else np.asarray(value)]
        elif node.op_type == 'Shape' and names[0] in self.shapes:
            values = evaluate(node, {names[0]: np.empty(self.shapes[names[0]], np.bool_)})
        elif all(name in self.constants for name in names):
            feeds = {name: self.constants[name] for name in names}
            known = node.op_type != 'ConstantOfShape' and not any(
                value is None for value in feeds.values()
            )
            values = evaluate(node, feeds) if known else None
        else:
            return False
        self.constants.update(zip(node.output, values or [None] * len(node.output)))
        return True


def small(tensor: TensorProto) -> np.ndarray | None:
    if np.prod(tensor.dims, dtype=np.int64) <= MAX_FOLDED:
        return numpy_helper.to_array(tensor)


def evaluate(node: NodeProto, feeds: dict) -> list | None:
    try:
        return ReferenceEvaluator(node).run(None, feeds)
    except Exception:  # the reference does not know every operator
        return None


def broken_rules(node: NodeProto, tensors: Tensors, operators: frozenset):
    kind, constants = node.op_type, tensors.constants
    if node.domain not in ('', 'ai.onnx') or kind not in operators:
        yield 'unsupported-operator'
    if kind == 'TopK':
        k = constants.get(node.input[1], 'unknown')
        if isinstance(k, str):
            yield 'topk-constant'
        elif k is not None and k.item() > MAX_K:
            yield 'topk-limit'
    # Layers behind one do not build ("incompatible with data-dependent
    # shapes"), and NMS looks at the best 5,000 (box, class) pairs only.
    if kind in DATA_DEPENDENT:
        yield 'data-dependent-shape'
    for index in SHAPE_INPUTS.get(kind, ()):
        if index < len(node.input) and node.input[index] in tensors.data:
            yield 'shape-from-data'
    for index in CONSTANT_INPUTS.get(kind, ()):
        if index < len(node.input) and node.input[index] not in {'', *constants}:
            yield 'constant-input'
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for name, allowed in ATTRIBUTES.get(kind, {}).items():
        if values.get(name, allowed[0]) not in allowed:
            yield 'attribute'
    pads = list(values.get('pads', []))
    if kind == 'DeformConv' and pads[: len(pads) // 2] != pads[len(pads) // 2 :]:
        yield 'attribute'
    if any(tensors.dtypes.get(name, 1) not in COMPUTED for name in node.output):
        yield 'type'
    first = tensors.dtypes.get(node.input[0], 0) if node.input else 0
    if (
        kind in NO_BOOL
        and first == TensorProto.BOOL
        or kind in ('Gemm', 'MatMul')
        and first not in (0, 1, 10, 16)
    ):
        yield 'type'
