"""3x3 convolutions of an exported model with a quarter of the multiplications, for CPUs.

Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks"
(CVPR 2016), F(4x4, 3x3). onnxruntime has no such convolution, but the operators
to write one with.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from mmdet_centernet2.runtime import Detector, ModelFileError

#: With fewer channels, the transforms take as long as is saved.
MIN_CHANNELS = 128
#: Of a convolution of the kind.
ATTRIBUTES = dict(kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1], dilations=[1, 1], group=1)

NAME, DOMAIN = 'WinogradConv', 'mmdet_centernet2'
#: From (N, I, H, W) to (N, O, H, W). Windows of 6x6 pixels, one for each tile of
#: 4x4, are transformed to "spectra" (N, 36, I, tiles) and multiplied pixel by
#: pixel; the products are transformed to the tiles.
FUNCTION = f"""
<domain: "{DOMAIN}", opset_import: ["" : OPSET]>
{NAME} <ins, outs> (image, windows, kernels, results, bias) => (cut) {{
    pixels = Conv <kernel_shape = [6, 6], strides = [4, 4], pads = [1, 1, 4, 4],
                   group: int = @ins> (image, windows)
    grid = Shape <start = 2, end = 4> (pixels)
    by_channel = Constant <value_ints = [0, -1, 36]> ()
    by_channel_and_tile = Concat <axis = 0> (by_channel, grid)
    split = Reshape (pixels, by_channel_and_tile)
    by_pixel = Transpose <perm = [0, 2, 1, 3, 4]> (split)
    tiles_joined = Constant <value_ints = [0, 0, 0, -1]> ()
    spectra = Reshape (by_pixel, tiles_joined)
    products = MatMul (kernels, spectra)
    products_by_channel = Transpose <perm = [0, 2, 1, 3]> (products)
    joined = Constant <value_ints = [0, -1]> ()
    joined_and_tile = Concat <axis = 0> (joined, grid)
    joined_products = Reshape (products_by_channel, joined_and_tile)
    tiles = ConvTranspose <kernel_shape = [4, 4], strides = [4, 4],
                           group: int = @outs> (joined_products, results, bias)
    origin = Constant <value_ints = [0, 0]> ()
    size = Shape <start = 2, end = 4> (image)
    axes = Constant <value_ints = [2, 3]> ()
    cut = Slice (tiles, origin, size, axes)
}}
"""

# The matrices of the paper, section 4.3; kron, as rows and columns are transformed alike.
_WINDOW = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNEL = [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]
_RESULT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
WINDOWS = np.kron(_WINDOW, _WINDOW).reshape(36, 1, 6, 6)
KERNELS = np.kron(_KERNEL, _KERNEL) / 24**2
RESULTS = np.kron(_RESULT, _RESULT).T.reshape(36, 1, 4, 4)


def winograd(model: str | Path, out: str | Path, min_channels: int = MIN_CHANNELS) -> int:
    """Replace the float32 3x3 convolutions of stride 1; results change by rounding only.

    Args:
        model: An ONNX file that ``tools/deploy.py`` or ``quantize.py`` wrote,
            for images of one size or of any.
        out: The file to write, with the same metadata.
        min_channels: Convolutions with fewer input or output channels stay.

    Returns:
        Number of replaced convolutions.

    Raises:
        ModelFileError: If there is none, the file has been written by this
            function, or was not exported by this package.
    """
    Detector(model)  # raises
    written = onnx.load(str(model))
    if any(function.name == NAME for function in written.functions):
        raise ModelFileError(f'{model} has Winograd convolutions already.')
    number = replace_convolutions(written, min_channels)
    if not number:
        raise ModelFileError(
            f'{model} has no float32 3x3 convolution of stride 1 with {min_channels} channels.'
        )
    onnx.save(written, str(out))
    return number


def replace_convolutions(model: onnx.ModelProto, min_channels: int) -> int:
    """See :func:`winograd`; in place."""
    graph = model.graph
    weights = {array.name: array for array in graph.initializer}
    for node in graph.node:  # of weights that several convolutions share
        if node.op_type == 'Identity' and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    arrays: dict[str, np.ndarray] = {}
    fitting = [node for node in graph.node if _fits(node, weights, min_channels)]
    for i, node in enumerate(fitting):
        image, name, *bias = node.input
        weight = weights[name]
        outs, ins = weight.dims[:2]
        inputs = [f'windows_{ins}', f'{weight.name}_winograd', f'results_{outs}']
        if inputs[1] not in arrays:
            pixels = numpy_helper.to_array(weight).reshape(-1, 9).T.astype(float)
            arrays[inputs[1]] = (KERNELS @ pixels).reshape(36, outs, ins)
        arrays[inputs[0]] = np.tile(WINDOWS, (ins, 1, 1, 1))
        arrays[inputs[2]] = np.tile(RESULTS, (outs, 1, 1, 1))
        # not the name of the convolution: INT8 goes by names, and is not for these nodes
        call = [NAME, [image, *inputs, *bias], node.output, f'winograd_{i}']
        node.CopyFrom(helper.make_node(*call, domain=DOMAIN, ins=ins, outs=outs))
    used = {name for node in graph.node for name in node.input}
    kept = [array for array in graph.initializer if array.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    graph.initializer.extend(
        numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()
    )
    opset = next(entry.version for entry in model.opset_import if not entry.domain)
    model.functions.append(parser.parse_function(FUNCTION.replace('OPSET', str(opset))))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return len(fitting)


def _fits(node: onnx.NodeProto, weights: dict[str, TensorProto], min_channels: int) -> bool:
    """Whether a node is a convolution that can be replaced."""
    if node.op_type != 'Conv' or node.input[1] not in weights:
        return False
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    given = {**ATTRIBUTES, 'pads': None, **given}  # pads alone are others by default
    weight = weights[node.input[1]]
    return (
        all(given[name] == value for name, value in ATTRIBUTES.items())
        and weight.data_type == TensorProto.FLOAT
        and min(weight.dims[:2]) >= min_channels
    )
