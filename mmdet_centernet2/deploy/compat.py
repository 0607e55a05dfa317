"""What mmdeploy 1.3.1 needs to run on today's torch and onnx.

One function for each bug. It says which bug, and does nothing where there is
none. mmdeploy's own files stay as they are: workarounds go through its
rewriters where that is possible, or add a name that has been removed.
"""
import inspect
import sys
from importlib import import_module
from typing import Any, Callable

import torch
from mmdeploy.core import FUNCTION_REWRITER
from mmdeploy.core.rewriters import (function_rewriter, rewriter_utils,
                                     symbolic_rewriter)

EXPORT = 'torch.onnx.export'
TOPK = 'torch.Tensor.topk'


def install() -> None:
    """Apply every workaround; calling it again changes nothing."""
    restore_cast_long()
    find_callers_quickly()
    name_packages()


def restore_cast_long() -> None:
    """Give ``torch.onnx.symbolic_opset9`` its ``_cast_Long`` back.

    mmdeploy's symbolic of mmcv's RoIAlign imports it; torch removed it in
    2.0 or later.
    """
    from torch.onnx import symbolic_opset9
    if not hasattr(symbolic_opset9, '_cast_Long'):
        symbolic_opset9._cast_Long = _cast_long


def _cast_long(g: Any, value: Any, non_blocking: bool) -> Any:
    """Symbolic of a conversion to int64."""
    return g.op('Cast', value, to_i=torch.onnx.TensorProtoDataType.INT64)


def find_callers_quickly() -> None:
    """Let rewriters find their function without reading source files.

    mmdeploy asks ``inspect.stack()``, which opens the source of every frame:
    half of the time of an export.
    """
    for module in (function_rewriter, symbolic_rewriter):
        module.get_frame_func = _calling_function


def _calling_function(top: int = 1) -> Callable:
    """The global function that runs ``top`` frames up."""
    frame = sys._getframe(top)
    return frame.f_globals[frame.f_code.co_name]


def name_packages() -> None:
    """Let rewriters find the functions they are registered for.

    mmdeploy evaluates ``'package.module.name'`` after ``exec('import
    package')``, which leaves no name behind in a function from Python 3.13 on.
    """
    for module in (function_rewriter, rewriter_utils):
        for name in ('copy', 'mmcv', 'mmdeploy', 'mmdet', 'mmdet_centernet2',
                     'torch'):
            vars(module).setdefault(name, import_module(name))


def has_new_exporter(export: Callable) -> bool:
    """Whether this ``torch.onnx.export`` knows the argument ``dynamo``."""
    return 'dynamo' in inspect.signature(export).parameters


@FUNCTION_REWRITER.register_rewriter(EXPORT)
def export__traced(*args: Any, **kwargs: Any) -> Any:
    """Keep to the exporter that traces, which is what mmdeploy rewrites.

    ``torch.onnx.export`` uses another one by default since torch 2.9; it
    does not know symbolic functions and takes no ``data_samples``.
    """
    ctx = FUNCTION_REWRITER.get_context(EXPORT)
    if has_new_exporter(ctx.origin_func):
        kwargs.setdefault('dynamo', False)
    return ctx.origin_func(*args, **kwargs)


@FUNCTION_REWRITER.register_rewriter(TOPK, backend='openvino')
@FUNCTION_REWRITER.register_rewriter('torch.topk', backend='openvino')
@FUNCTION_REWRITER.register_rewriter(TOPK, backend='onnxruntime')
@FUNCTION_REWRITER.register_rewriter('torch.topk', backend='onnxruntime')
def topk__constant(input: torch.Tensor,
                   k: int,
                   dim: int = -1,
                   largest: bool = True,
                   sorted: bool = True) -> Any:
    """Keep K a number: mmdeploy's rewriter computes it from the input.

    Callers see to it that there are K values.
    """
    ctx = FUNCTION_REWRITER.get_context(TOPK)
    return ctx.origin_func(
        input, int(k), dim=dim, largest=largest, sorted=sorted)
