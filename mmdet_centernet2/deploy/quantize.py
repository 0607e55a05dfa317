"""INT8 for the backbone and the neck of an exported model, where the time goes.

The heads stay in float32: box regression and the ranking of scores need it.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from mmdet_centernet2.runtime import Detector, ModelFileError

from .finish import SCOPES

# What onnxruntime has INT8 kernels for and a backbone consists of. Between
# two convolutions, one of another kind would mean a conversion to float and back.
OPERATORS = frozenset(
    'Conv Add Relu Clip MaxPool AveragePool GlobalAveragePool Concat Resize'.split()
)


class _Inputs(CalibrationDataReader):
    """Inputs of the graph, one image after the other."""

    def __init__(self, feeds: Iterator[dict[str, np.ndarray]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def quantize(model: str | Path, out: str | Path, images: Sequence[Path]) -> int:
    """Quantise the backbone and the neck of an exported model.

    Weights get a scale for each channel, activations one for each tensor.

    Args:
        model: An ONNX file that ``tools/deploy.py`` wrote.
        out: The file to write, with the same metadata.
        images: Some dozens for calibration, like those to come.

    Returns:
        Number of quantised convolutions.

    Raises:
        ModelFileError: If the file was not exported by this package, or the
            names of its nodes do not say which are the backbone's.
    """
    detector = Detector(model)
    paths = tqdm(images, desc='Calibrating', unit='image')
    with tempfile.TemporaryDirectory() as folder:
        prepared = str(Path(folder) / 'prepared.onnx')
        # folds batch norms into convolutions where that is not done yet
        quant_pre_process(str(model), prepared, skip_symbolic_shape=True)
        nodes = quantised_nodes(onnx.load(prepared), str(model))
        quantize_static(
            prepared,
            str(out),
            _Inputs(detector.feeds([detector.prepare(path)]) for path in paths),
            op_types_to_quantize=sorted({n.op_type for n in nodes}),
            nodes_to_quantize=[n.name for n in nodes],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    quantised = onnx.load(str(out))
    onnx.helper.set_model_props(quantised, dict(detector.session.metadata))
    onnx.save(quantised, str(out))
    return sum(node.op_type == 'Conv' for node in nodes)


def quantised_nodes(model: onnx.ModelProto, path: str) -> list[onnx.NodeProto]:
    """Nodes of the backbone and the neck that INT8 makes faster."""
    nodes = [
        node
        for node in model.graph.node
        if any(scope in node.name for scope in SCOPES) and node.op_type in OPERATORS
    ]
    if not any(node.op_type == 'Conv' for node in nodes):
        raise ModelFileError(
            f'{path} has no convolution whose name has {" or ".join(SCOPES)} in it: another tool '
            'exported or renamed it. Use tools/deploy.py.'
        )
    return nodes
