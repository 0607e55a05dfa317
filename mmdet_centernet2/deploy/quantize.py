"""INT8 for the backbone and the neck of an exported model.

There is where the time goes. The heads stay in float32: boxes are regressed
there, and scores that decide about ranks have no digits to spare.
"""
from __future__ import annotations

import logging
import tempfile
from collections import Counter
from pathlib import Path
from typing import List, Optional, Sequence, Union

import numpy as np
import onnx
from onnxruntime.quantization import (CalibrationDataReader,
                                      CalibrationMethod, QuantFormat,
                                      QuantType, quantize_static)
from onnxruntime.quantization.shape_inference import quant_pre_process
from tqdm import tqdm

from .runtime import Detector, ModelFileError

#: Modules whose nodes are quantised, as they stand in the nodes' names.
SCOPES = ('/backbone/', '/neck/')
METHODS = {
    'minmax': CalibrationMethod.MinMax,
    'entropy': CalibrationMethod.Entropy,
    'percentile': CalibrationMethod.Percentile,
}


class _Images(CalibrationDataReader):
    """Photographs as the model's inputs, with a progress bar.

    Args:
        detector (Detector): The float model, which knows how to prepare them.
        paths (Sequence[Path]): The images.
        progress (bool): Whether to show it.
    """

    def __init__(self, detector: Detector, paths: Sequence[Path],
                 progress: bool) -> None:
        self.detector = detector
        self.paths = iter(tqdm(paths, desc='Calibrating', unit='image',
                               disable=not progress))

    def get_next(self) -> Optional[dict[str, np.ndarray]]:
        """Inputs of the graph; None after the last image."""
        path = next(self.paths, None)
        if path is None:
            return None
        return self.detector.feeds([self.detector.prepare(path)])


def quantize(model: Union[str, Path],
             out: Union[str, Path],
             images: Sequence[Path],
             method: str = 'minmax',
             progress: bool = True) -> int:
    """Quantise the backbone and the neck of an exported model.

    Weights get a scale for each channel, activations one for each tensor,
    from what they are on ``images``.

    Args:
        model (str | Path): An ONNX file that ``tools/deploy.py`` wrote.
        out (str | Path): The file to write; it says the same about itself.
        images (Sequence[Path]): Photographs like those to come, some dozens.
        method (str): How ranges are chosen: a key of :data:`METHODS`.
        progress (bool): Whether to show it.

    Returns:
        int: Number of quantised convolutions.

    Raises:
        ModelFileError: If the file was not exported by this package, or the
            names of its nodes do not say which are the backbone's.
    """
    detector = Detector(model)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = str(Path(folder) / 'prepared.onnx')
        # folds batch norms into convolutions, where that was not done before
        quant_pre_process(str(model), prepared, skip_symbolic_shape=True)
        graph = onnx.load(prepared)
        nodes = quantised_nodes(graph, str(model))
        quantize_static(
            prepared,
            str(out),
            _Images(detector, images, progress),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted({n.op_type for n in nodes}),
            nodes_to_quantize=[n.name for n in nodes],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=METHODS[method])
    _copy_metadata(model, out)
    return sum(node.op_type == 'Conv' for node in nodes)


def quantised_nodes(model: onnx.ModelProto,
                    path: str) -> List[onnx.NodeProto]:
    """Nodes of the backbone and the neck that INT8 makes faster.

    Args:
        model (onnx.ModelProto): An exported model.
        path (str): Its file, for messages.

    Returns:
        list[onnx.NodeProto]: In the graph's order.

    Raises:
        ModelFileError: If there is none.
    """
    nodes = [node for node in model.graph.node
             if any(scope in node.name for scope in SCOPES)
             and node.op_type in _FASTER]
    if not any(node.op_type == 'Conv' for node in nodes):
        scopes = Counter(node.name.split('/')[1] for node in model.graph.node
                         if node.name.count('/') > 1)
        raise ModelFileError(
            f'{path} has no convolution whose name has '
            f'{" or ".join(SCOPES)} in it (but {dict(scopes)}): the file was '
            'exported by another tool, or renamed by one. Export it with '
            'tools/deploy.py.')
    return nodes


# What onnxruntime has INT8 kernels for and a backbone consists of. Between
# two convolutions, one of another kind would mean a way to float and back.
_FASTER = frozenset(('Conv', 'Add', 'Relu', 'Clip', 'MaxPool', 'AveragePool',
                     'GlobalAveragePool', 'Concat', 'Resize'))


def _copy_metadata(source: Union[str, Path], target: Union[str, Path]) -> None:
    entries = {entry.key: entry.value for entry in
               onnx.load(str(source), load_external_data=False).metadata_props}
    model = onnx.load(str(target))
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, str(target))


class _quiet:
    """Without the warnings that advise what has been done already."""

    def __enter__(self) -> None:
        self.level = logging.getLogger().level
        logging.getLogger().setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        logging.getLogger().setLevel(self.level)
