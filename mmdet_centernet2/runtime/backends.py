"""Engines that run the graph of a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .errors import DeployedModelError, ModelFileError

Arrays = Mapping[str, np.ndarray]


class OnnxRuntimeSession:
    """An ONNX file in onnxruntime; called with arrays by name, it gives such.

    Attributes:
        metadata: What the file says about itself.
        input_shapes: By name; None where a length is free.
        output_names: In order.
    """

    def __init__(self, path: str, device: str, threads: int):
        import onnxruntime as ort

        ort.set_default_logger_severity(3)  # errors
        options = ort.SessionOptions()
        # Not set_denormal_as_zero: it would change the caller's thread, too.
        options.intra_op_num_threads = threads
        providers = _ort_providers(ort.get_available_providers(), device)
        self.session = ort.InferenceSession(path, options, providers=providers)
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map
        self.input_shapes = {
            v.name: tuple(n if isinstance(n, int) else None for n in v.shape)
            for v in self.session.get_inputs()
        }
        self.output_names = tuple(v.name for v in self.session.get_outputs())

    def __call__(self, feeds: Arrays) -> Arrays:
        return dict(zip(self.output_names, self.session.run(self.output_names, dict(feeds))))


class OpenVinoSession:
    """The same with OpenVINO, of an ONNX file or its own ``.xml``."""

    def __init__(self, path: str, device: str, threads: int):
        core = openvino_core()
        # by default it takes bfloat16 where the CPU has it
        options = dict(
            INFERENCE_PRECISION_HINT='f32',
            PERFORMANCE_HINT='LATENCY',
            INFERENCE_NUM_THREADS=threads,
        )
        model = core.read_model(path)
        # of an ONNX file, or of the one that an .xml was made from
        self.metadata: dict[str, str] = {}
        if model.has_rt_info(['framework']):
            info = model.get_rt_info(['framework']).value
            self.metadata = {key: str(value) for key, value in info.items()}
        self.compiled = core.compile_model(model, device.upper(), options)
        self.input_shapes = {
            p.any_name: tuple(n.get_length() if n.is_static else None for n in p.partial_shape)
            for p in self.compiled.inputs
        }
        self.output_names = tuple(p.any_name for p in self.compiled.outputs)

    def __call__(self, feeds: Arrays) -> Arrays:
        outputs = self.compiled(dict(feeds))
        return {port.any_name: outputs[port] for port in self.compiled.outputs}


def openvino_core():
    """OpenVINO, with ONNX's deformable convolution; its own reader lacks that one."""
    import openvino
    from openvino.frontend.onnx import ConversionExtension

    try:
        from openvino import opset8
    except ImportError:  # before 2025.0
        from openvino.runtime import opset8

    def convert(node):
        data, weight, offset, bias, mask = map(node.get_input, range(5))
        names = ('strides', 'pads', 'dilations', 'group', 'offset_group')
        strides, pads, dilations, *groups = map(node.get_attribute, names)
        found = opset8.deformable_convolution(
            *(data, offset, weight, strides, pads[:2], pads[2:], dilations, mask, 'explicit'),
            *groups,
            bilinear_interpolation_pad=True,
        )
        return opset8.add(found, opset8.unsqueeze(bias, [0, 2, 3])).outputs()

    core = openvino.Core()
    core.add_extension(ConversionExtension('DeformConv', convert))
    return core


#: More would only wait for one another, if the system can start them at all.
MAX_THREADS = max(256, os.cpu_count() or 1)
#: Engines by name.
BACKENDS = dict(onnxruntime=OnnxRuntimeSession, openvino=OpenVinoSession)
Session = OnnxRuntimeSession | OpenVinoSession


def open_session(
    path: str | Path, backend: str = 'onnxruntime', device: str = 'cpu', threads: int | None = None
) -> Session:
    """Load a model, ready to run; arguments and errors are those of ``Detector``."""
    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f'model {path} does not exist (looked for {path.absolute()}).')
    if backend not in BACKENDS:
        raise DeployedModelError(
            f'there is no backend {backend!r}; there are {", ".join(BACKENDS)}.'
        )
    if threads is None:
        cores = getattr(os, 'sched_getaffinity', lambda _: range(os.cpu_count() or 1))
        threads = len(cores(0))
    elif not (type(threads) is int and 1 <= threads <= MAX_THREADS):
        raise DeployedModelError(f'threads is {threads!r}; give 1 to {MAX_THREADS}.')
    try:
        return BACKENDS[backend](str(path), device, threads)
    except ModuleNotFoundError as error:
        raise DeployedModelError(f'{error}: pip install {backend}') from error
    except DeployedModelError:
        raise
    except Exception as error:  # onnxruntime's have no base of their own
        raise ModelFileError(
            f'{path} ({path.stat().st_size} bytes) is not a model that can '
            f'be run here: {" ".join(str(error).split())[:400]}'
        ) from error


def _ort_providers(available: list[str], device: str) -> list:
    kind, _, index = device.partition(':')
    if kind == 'cpu':
        return ['CPUExecutionProvider']
    if kind != 'cuda' or not (index or '0').isdigit() or 'CUDAExecutionProvider' not in available:
        raise DeployedModelError(
            f'this onnxruntime has no device {device!r}; give cpu, or, with onnxruntime-gpu '
            'installed, cuda or cuda:N.'
        )
    return [('CUDAExecutionProvider', dict(device_id=int(index or 0))), 'CPUExecutionProvider']
