"""Does an ONNX graph obey the rules of TensorRT? Told without TensorRT.

The rules are those that TensorRT's own documents state: the support matrices
of its ONNX parser (onnx-tensorrt, ``docs/operators.md``, of the releases in
:data:`RELEASES`), its changelog, and the chapter on dynamic shapes of the
developer guide. Each check below says which it is. A graph without findings
has not been run by TensorRT; it only contains nothing that is known to stop
it.

Findings are of two kinds. An ``error`` stops TensorRT, or makes it build an
engine of unpredictable memory and speed. A ``note`` is what it does silently
(INT64 becomes INT32) or wants to be told (the range of a dynamic size).
"""
from typing import (Callable, Dict, Iterable, Iterator, List, NamedTuple,
                    Optional, Sequence, Set, Tuple, Union)

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

#: Largest K of TopK.
MAX_K = 3840
#: Constants of more elements than this are not evaluated.
MAX_FOLDED = 4096


class Finding(NamedTuple):
    """One violation.

    Args:
        rule (str): Short name of the rule.
        severity (str): ``error`` or ``note``.
        node (str): Where: operator and name, with those of the enclosing
            control flow in front; empty if it concerns the whole model.
        message (str): What is wrong and what to do about it.
    """
    rule: str
    severity: str
    node: str
    message: str


class Release(NamedTuple):
    """What a release of TensorRT takes.

    Args:
        max_opset (int): Highest opset of the default domain.
        operators (frozenset[str]): Supported operators.
        int64 (bool): Whether it computes in INT64.
    """
    max_opset: int
    operators: frozenset
    int64: bool


_SINCE_8_6 = frozenset('''
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool
    BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv
    ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
    Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
    GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
    Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish
    Identity If InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization
    LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool
    MatMul Max MaxPool Mean MeanVarianceNormalization Min Mod Mul Neg
    NonMaxSuppression NonZero Not OneHot Or PRelu Pad Pow QuantizeLinear RNN
    RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range
    Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Resize ReverseSequence RoiAlign Round Scan Scatter ScatterElements
    ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
    Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
    '''.split())
_SINCE_10_1 = _SINCE_8_6 | {'CastLike', 'DeformConv', 'Gelu', 'Hardmax'}

#: Release to what it takes, oldest first. 8.6: matrix of 8.5 and changelog of
#: 8.6; DeformConv came with 10.1.
RELEASES: Dict[str, Release] = {
    '8.6': Release(17, _SINCE_8_6, False),
    '10.1': Release(20, _SINCE_10_1, True),
    '10.15': Release(24, _SINCE_10_1 | {'Mish', 'RMSNormalization'}, True),
}

#: Operator to its inputs that decide about the shape of its output.
SHAPE_INPUTS: Dict[str, Tuple[int, ...]] = dict(
    CenterCropPad=(1, ), ConstantOfShape=(0, ), Expand=(1, ), OneHot=(1, ),
    Pad=(1, 3), Range=(0, 1, 2), Reshape=(1, ), Resize=(2, 3), Slice=(1, 2, 4),
    Split=(1, ), Tile=(1, ), Upsample=(1, ))
#: Operator to its inputs that must be known when the engine is built.
CONSTANT_INPUTS: Dict[str, Tuple[int, ...]] = dict(
    CumSum=(1, ), NonMaxSuppression=(2, 3, 4), OneHot=(1, ), Slice=(3, ),
    Squeeze=(1, ), Unsqueeze=(1, ), ReduceMax=(1, ), ReduceMean=(1, ),
    ReduceMin=(1, ), ReduceProd=(1, ), ReduceSum=(1, ))
#: Shape of the output depends on values.
DATA_DEPENDENT = ('NonZero', 'NonMaxSuppression', 'Unique', 'Compress')
#: What may follow the last NMS: it only picks and formats its results.
TAIL = frozenset('''
    Add Cast Concat Constant Div Expand Flatten Gather GatherElements GatherND
    Identity Mul Reshape ScatterElements ScatterND Shape Slice Squeeze Sub
    Transpose Unsqueeze Where'''.split())
#: Output has the shape of the first input alone.
KEEPS_SHAPE = ('Scatter', 'ScatterElements', 'ScatterND')
CONTROL_FLOW = ('If', 'Loop', 'Scan')
SEQUENCES = ('ConcatFromSequence', 'SplitToSequence')
#: ONNX allows more types for these than TensorRT.
FLOAT_ONLY = ('CumSum', 'Gemm', 'MatMul')
NO_BOOL = ('ArgMax', 'ArgMin', 'Equal', 'Max', 'Min', 'Pad', 'ReduceMax',
           'ReduceMin', 'ReduceSum', 'ScatterElements', 'ScatterND', 'TopK')
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
COMPUTED = (*FLOATS, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)
INT32 = np.iinfo(np.int32)


class Scope:
    """A graph with what is known of its tensors.

    Args:
        graph (onnx.GraphProto): Of a model with inferred shapes, or the body
            of a control flow operator.
        parent (Scope, optional): What the body can see from outside.
        path (str): Name of the enclosing node.

    Attributes:
        constants (dict): Name to value of what is known when the engine is
            built; None for a large value.
        data (set): Tensors with values that depend on the input's values.
        ragged (set): Tensors with shapes that depend on the input's values.
    """

    def __init__(self,
                 graph: onnx.GraphProto,
                 parent: Optional['Scope'] = None,
                 path: str = '') -> None:
        self.graph = graph
        self.path = path
        self.dtypes: Dict[str, int] = dict(parent.dtypes) if parent else {}
        self.shapes: Dict[str, tuple] = dict(parent.shapes) if parent else {}
        self.constants: Dict[str, Optional[np.ndarray]] = dict(
            parent.constants) if parent else {}
        self.data: Set[str] = set(parent.data) if parent else set()
        self.ragged: Set[str] = set(parent.ragged) if parent else set()
        self.outputs = {value.name for value in graph.output}
        self.consumers: Dict[str, List[NodeProto]] = {}
        self._read_declarations()
        for node in graph.node:
            self._visit(node)

    def _read_declarations(self) -> None:
        graph = self.graph
        for value in (*graph.value_info, *graph.output, *graph.input):
            kind = value.type.tensor_type
            self.dtypes[value.name] = kind.elem_type
            if kind.HasField('shape'):
                self.shapes[value.name] = tuple(
                    side.dim_value if side.HasField('dim_value') else None
                    for side in kind.shape.dim)
        for tensor in graph.initializer:
            self.dtypes[tensor.name] = tensor.data_type
            self.shapes[tensor.name] = tuple(tensor.dims)
            self.constants[tensor.name] = small_array(tensor)
        named = {tensor.name for tensor in graph.initializer}
        self.data |= {value.name for value in graph.input} - named

    def _visit(self, node: NodeProto) -> None:
        """Note who reads what, and where values and shapes come from."""
        for name in node.input:
            self.consumers.setdefault(name, []).append(node)
        outputs = [name for name in node.output if name]
        if self._fold(node):
            return
        shapes = node.input[:1] if node.op_type in KEEPS_SHAPE else node.input
        if (node.op_type in DATA_DEPENDENT
                or any(name in self.ragged for name in shapes)):
            self.ragged.update(outputs)
        if node.op_type in ('Shape', 'Size'):
            depends = node.input[0] in self.ragged
        else:
            depends = (node.op_type in CONTROL_FLOW
                       or any(name in self.data for name in node.input))
        if depends:
            self.data.update(outputs)

    def _fold(self, node: NodeProto) -> bool:
        """Evaluate a node that depends on nothing; whether it is constant."""
        if node.op_type == 'Constant':
            self._fold_constant(node)
            return True
        if node.op_type == 'Shape' and None not in self.shapes.get(
                node.input[0], (None, )):
            feeds = [np.empty(self.shapes[node.input[0]], np.bool_)]
        elif node.op_type in CONTROL_FLOW or any(
                name and name not in self.constants for name in node.input):
            return False
        else:
            feeds = [self.constants[name] for name in node.input if name]
        values: Sequence = [None] * len(node.output)
        if node.op_type != 'ConstantOfShape' and not any(
                value is None for value in feeds):
            values = evaluate(node, feeds) or values
        self.constants.update(zip(node.output, values))
        return True

    def _fold_constant(self, node: NodeProto) -> None:
        value, = node.attribute
        array = helper.get_attribute_value(value)
        if value.name == 'value':
            self.dtypes[node.output[0]] = array.data_type
            array = small_array(array)
        elif value.name == 'sparse_value':
            array = None
        self.constants[node.output[0]] = (
            array if array is None else np.asarray(array))

    def where(self, node: NodeProto) -> str:
        """Operator and name of a node, with the enclosing ones."""
        name = node.name or (node.output[0] if node.output else '')
        return f'{self.path}{node.op_type} {name}'


def small_array(tensor: TensorProto) -> Optional[np.ndarray]:
    """Value of a tensor, None if it is large."""
    if np.prod(tensor.dims, dtype=np.int64) > MAX_FOLDED:
        return None
    return numpy_helper.to_array(tensor)


def evaluate(node: NodeProto, feeds: Sequence[np.ndarray]) -> Optional[list]:
    """Outputs of one node; None if that cannot be told."""
    names = [name for name in node.input if name]
    try:
        return ReferenceEvaluator(node).run(None, dict(zip(names, feeds)))
    except Exception:  # the reference does not know every operator
        return None


# --- The rules: each takes a scope, a node and a release ---------------------


def check_operator(scope: Scope, node: NodeProto,
                   release: Release) -> Iterator[Finding]:
    """Support matrix; other domains need a plugin library."""
    where, name = scope.where(node), node.op_type
    if node.domain not in ('', 'ai.onnx'):
        yield Finding(
            'custom-operator', 'error', where,
            f'is of the domain {node.domain!r}: TensorRT needs a plugin '
            'library for it')
    elif (name.startswith(('Sequence', 'Optional')) or name in SEQUENCES):
        yield Finding('sequence', 'error', where,
                      'sequences and optionals are not supported')
    elif name in CONTROL_FLOW:
        yield Finding(
            'control-flow', 'error', where,
            'splits the engine into parts that wait for each other (loops, '
            'with states of constant shape, and branches are supported as '
            'such): unroll it, or select with Where')
    elif name not in release.operators:
        yield Finding('unsupported-operator', 'error', where,
                      'is not in the support matrix of this release')


def check_topk(scope: Scope, node: NodeProto,
               release: Release) -> Iterator[Finding]:
    """K is an initializer, at most 3,840; results are sorted (10.15)."""
    if node.op_type != 'TopK':
        return
    where = scope.where(node)
    if attribute(node, 'sorted', 1) != 1:
        yield Finding('topk-sorted', 'error', where, 'sorted must be 1')
    if len(node.input) < 2:
        k: Optional[int] = attribute(node, 'k', None)
    elif node.input[1] not in scope.constants:
        yield Finding(
            'topk-constant', 'error', where,
            f'K ({node.input[1]}) is not constant: pad the scores to K, or '
            'export for one image size')
        return
    else:
        value = scope.constants[node.input[1]]
        k = None if value is None else int(np.ravel(value)[0])
    if k is not None and k > MAX_K:
        yield Finding('topk-limit', 'error', where,
                      f'K = {k:,} exceeds the limit of {MAX_K:,}')


def check_data_dependent(scope: Scope, node: NodeProto,
                         release: Release) -> Iterator[Finding]:
    """Sizes that depend on values: at most behind everything else.

    Layers behind one fail to build with "requires foreign node optimizations
    incompatible with data-dependent shapes"; as an output, such a tensor has
    to be bound with an ``IOutputAllocator`` (developer guide). The NMS layer
    moreover looks at no more than the best 5,000 (box, class) pairs of an
    image (operator reference, NMS).
    """
    if node.op_type not in DATA_DEPENDENT:
        return
    where = scope.where(node)
    blocked = sorted({
        behind.op_type
        for behind in everything_behind(scope, node)
        if behind.op_type not in TAIL
    })
    if blocked:
        yield Finding(
            'data-dependent-shape', 'error', where,
            'how many rows it gives depends on the values, and there is '
            f'{", ".join(blocked)} behind it: keep the shape, with a mask')
    else:
        yield Finding(
            'data-dependent-output', 'note', where,
            'how many rows it gives depends on the values: bind the outputs '
            'with an output allocator')


def everything_behind(scope: Scope, node: NodeProto) -> List[NodeProto]:
    """All nodes that a node's outputs reach, those in bodies left out."""
    found: List[NodeProto] = []
    seen, waiting = set(), list(node.output)
    while waiting:
        for consumer in scope.consumers.get(waiting.pop(), ()):
            key = tuple(consumer.output)
            if key not in seen:
                seen.add(key)
                found.append(consumer)
                waiting += consumer.output
    return found


def check_shape_inputs(scope: Scope, node: NodeProto,
                       release: Release) -> Iterator[Finding]:
    """Shapes come from constants and from other shapes.

    TensorRT tells shape tensors from execution tensors: what a layer takes as
    a size, a start or a scale has to be computable from the shapes of the
    inputs before anything runs (developer guide, dynamic shapes).
    """
    for index in SHAPE_INPUTS.get(node.op_type, ()):
        name = input_name(node, index)
        if name in scope.data and name not in scope.constants:
            yield Finding(
                'shape-from-data', 'error', scope.where(node),
                f'its input {index} ({name}) decides about a shape, but is '
                'computed from values of the input')
    for index in CONSTANT_INPUTS.get(node.op_type, ()):
        name = input_name(node, index)
        if name and name not in scope.constants:
            yield Finding(
                'constant-input', 'error', scope.where(node),
                f'its input {index} ({name}) must be known when the engine '
                'is built')


def check_attributes(scope: Scope, node: NodeProto,
                     release: Release) -> Iterator[Finding]:
    """Restrictions in the last column of the support matrix."""
    problem = None
    if node.op_type == 'Resize':
        problem = resize_problem(node)
    elif node.op_type == 'DeformConv':
        pads = list(attribute(node, 'pads', []))
        half = len(pads) // 2
        if pads[:half] != pads[half:]:
            problem = f'pads {pads} must be the same on both sides'
    elif node.op_type == 'ScatterND':
        reduction = attribute(node, 'reduction', b'none').decode()
        if reduction != 'none':
            problem = f'reduction={reduction!r} is not supported'
    elif node.op_type == 'MaxPool' and len(node.output) > 1:
        problem = 'its second output (indices) is not supported'
    elif (node.op_type in ('AveragePool', 'LpPool', 'MaxPool')
          and set(attribute(node, 'dilations', [1])) != {1}):
        problem = 'dilations are not supported'
    if problem:
        yield Finding('attribute', 'error', scope.where(node), problem)


def resize_problem(node: NodeProto) -> Optional[str]:
    """What TensorRT's resize layer cannot do."""
    mode = attribute(node, 'mode', b'nearest').decode()
    if mode not in ('nearest', 'linear'):
        return f'mode={mode!r} is not supported'
    way = attribute(node, 'coordinate_transformation_mode',
                    b'half_pixel').decode()
    if way not in ('half_pixel', 'pytorch_half_pixel', 'tf_half_pixel_for_nn',
                   'asymmetric', 'align_corners'):
        return f'coordinate_transformation_mode={way!r} is not supported'
    if attribute(node, 'antialias', 0):
        return 'antialiasing is not supported'
    policy = attribute(node, 'keep_aspect_ratio_policy', b'stretch').decode()
    if policy != 'stretch':
        return f'keep_aspect_ratio_policy={policy!r} is not supported'
    return None


def check_types(scope: Scope, node: NodeProto,
                release: Release) -> Iterator[Finding]:
    """Types that layers compute in; DOUBLE is cast down, within limits."""
    where = scope.where(node)
    for name in node.output:
        dtype = scope.dtypes.get(name, 0)
        if not dtype or dtype in COMPUTED:
            continue
        if node.op_type == 'QuantizeLinear' and dtype == TensorProto.INT8:
            continue
        if dtype == TensorProto.UINT8 and name in scope.outputs:
            continue
        yield Finding(
            'type', 'error', where,
            f'gives {type_name(dtype)}, which layers do not compute in'
            + (': DOUBLE is cast down to FLOAT where possible'
               if dtype == TensorProto.DOUBLE else ''))
    first = scope.dtypes.get(input_name(node, 0), 0)
    if not first:
        return
    if node.op_type in FLOAT_ONLY and first not in FLOATS or (
            node.op_type in NO_BOOL and first == TensorProto.BOOL):
        yield Finding('type', 'error', where,
                      f'does not take {type_name(first)}: cast its input')


RULES: Tuple[Callable[[Scope, NodeProto, Release], Iterable[Finding]], ...] = (
    check_operator, check_topk, check_data_dependent, check_shape_inputs,
    check_attributes, check_types)

# --- Rules for the whole model ----------------------------------------------


def check_opset(model: onnx.ModelProto, release: Release
                ) -> Iterator[Finding]:
    """Opsets from 9 to the release's last; DeformConv is of opset 19."""
    opset = next((entry.version for entry in model.opset_import
                  if entry.domain in ('', 'ai.onnx')), 0)
    if not 9 <= opset <= release.max_opset:
        yield Finding(
            'opset', 'error', '',
            f'the model is of opset {opset}, this release takes 9 to '
            f'{release.max_opset}: export with another opset_version')


def check_large_integers(scope: Scope, release: Release) -> Iterator[Finding]:
    """Before INT64 was a type of its own, it was clamped to INT32 (8.6)."""
    if release.int64:
        return
    if any(scope.dtypes.get(name) == TensorProto.INT64 for name in scope.data):
        yield Finding('int64', 'note', '',
                      'INT64 tensors are computed in INT32 by this release')
    # Slice means "to the end" by the largest numbers; clamping keeps that.
    ends = {name for node in scope.graph.node if node.op_type == 'Slice'
            for name in node.input}
    for name, value in scope.constants.items():
        if (value is not None and value.dtype == np.int64 and value.size
                and name not in ends
                and not INT32.min <= value.min() <= value.max() <= INT32.max):
            yield Finding('int64', 'error', f'constant {name}',
                          'has values beyond INT32, which are clamped')


def check_inputs(scope: Scope) -> Iterator[Finding]:
    """Every dynamic size needs a range (an optimization profile)."""
    constants = {tensor.name for tensor in scope.graph.initializer}
    for value in scope.graph.input:
        if value.name in constants:
            continue
        shape = scope.shapes.get(value.name)
        if shape is None:
            yield Finding('input-rank', 'error', f'input {value.name}',
                          'its number of dimensions is not known')
        elif None in shape:
            sides = ', '.join('?' if side is None else str(side)
                              for side in shape)
            yield Finding(
                'dynamic-input', 'note', f'input {value.name}',
                f'has the shape ({sides}): give min, opt and max shapes')


def check_tensorrt(model: Union[str, onnx.ModelProto],
                   release: str = '10.1') -> List[Finding]:
    """All that keeps TensorRT from running a model.

    Args:
        model (str or onnx.ModelProto): The model or its file.
        release (str): One of :data:`RELEASES`.

    Returns:
        list[Finding]: Errors first, in the order of the graph.

    Raises:
        ValueError: If the release is not known.
    """
    if release not in RELEASES:
        raise ValueError(f'no rules for TensorRT {release}, only for '
                         f'{", ".join(RELEASES)}: choose the next lower one')
    rules = RELEASES[release]
    if isinstance(model, str):
        model = onnx.load(model)
    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    scope = Scope(model.graph)
    findings = [
        *check_opset(model, rules), *check_inputs(scope),
        *check_large_integers(scope, rules), *walk(scope, rules)
    ]
    return sorted(findings, key=lambda finding: finding.severity != 'error')


def walk(scope: Scope, release: Release) -> Iterator[Finding]:
    """Findings of all nodes, and of the bodies in them."""
    for node in scope.graph.node:
        for rule in RULES:
            yield from rule(scope, node, release)
        for value in node.attribute:
            for body in (*value.graphs, value.g):
                if body.node:
                    yield from walk(
                        Scope(body, scope, f'{scope.where(node)} > '), release)


def errors(findings: Iterable[Finding]) -> List[Finding]:
    """Those that stop TensorRT."""
    return [finding for finding in findings if finding.severity == 'error']


def report(findings: Sequence[Finding], most: int = 5) -> str:
    """Findings as text, grouped by rule.

    Args:
        findings (Sequence[Finding]): What :func:`check_tensorrt` gave.
        most (int): Show so many of each rule.
    """
    lines = []
    for severity in ('error', 'note'):
        chosen = [found for found in findings if found.severity == severity]
        for rule in dict.fromkeys(found.rule for found in chosen):
            group = [found for found in chosen if found.rule == rule]
            lines.append(f'{severity}: {rule} ({len(group)})')
            lines += [f'  {found.node or "model"}: {found.message}'
                      for found in group[:most]]
            if len(group) > most:
                lines.append(f'  and {len(group) - most} more')
    return '\n'.join(lines)


# --- Small helpers ----------------------------------------------------------


def attribute(node: NodeProto, name: str, default: object) -> object:
    """Value of an attribute."""
    for value in node.attribute:
        if value.name == name:
            return helper.get_attribute_value(value)
    return default


def input_name(node: NodeProto, index: int) -> str:
    """Name of an input; empty if it is left out."""
    return node.input[index] if index < len(node.input) else ''


def type_name(dtype: int) -> str:
    """E.g. DOUBLE."""
    return TensorProto.DataType.Name(dtype)
