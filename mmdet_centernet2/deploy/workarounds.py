"""What replaces parts of mmdeploy 1.3.1, and why; see :func:`enable`."""

import functools
import sys
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from mmdeploy.backend.base import BACKEND_MANAGERS
from mmdeploy.codebase.mmdet.deploy.object_detection import MMDET_TASK
from mmdeploy.core import FUNCTION_REWRITER, MODULE_REWRITER, SYMBOLIC_REWRITER
from mmdeploy.core.rewriters import function_rewriter, rewriter_utils, symbolic_rewriter
from mmdeploy.utils import IR, Backend, Task, get_ir_config
from torch import Tensor

from .openvino_backend import CurrentOpenVINOManager
from .rewriters.detectors import with_sizes
from .task import CenterNet2Detection

EXPORT = 'torch.onnx.export'
TOPK = 'torch.Tensor.topk'
DETECTORS = 'mmdet.models.detectors.'
DEFORM_OPSET = 19  # the first with DeformConv


@functools.cache
def enable() -> None:
    """Switch on everything that this process needs to export our detectors.

    For the whole process, other models of mmdet included, this replaces:

    - mmdeploy's task processor of object detection (static shapes no longer
      distort images, graphs get the sizes of the images as second input),
    - its export of ``topk``, group norm (TensorRT) and deformable
      convolution, which use custom operators or a K that is not constant,
    - its OpenVINO conversion and runtime, whose interfaces OpenVINO dropped,
    - what fails or is slow on current versions of torch and Python.
    """
    MMDET_TASK.register_module(Task.OBJECT_DETECTION.value, force=True, module=CenterNet2Detection)
    for name in ('two_stage.TwoStageDetector', 'single_stage.SingleStageDetector'):
        MODULE_REWRITER.register_rewrite_module(DETECTORS + name)(with_sizes)
    FUNCTION_REWRITER.register_rewriter(EXPORT)(export__traced)
    for backend in (Backend.OPENVINO, Backend.ONNXRUNTIME):
        for name in (TOPK, 'torch.topk'):
            FUNCTION_REWRITER.register_rewriter(name, backend=backend.value)(topk__constant)
    FUNCTION_REWRITER.register_rewriter(
        'torch.nn.functional.group_norm', backend=Backend.TENSORRT.value
    )(group_norm__standard)
    SYMBOLIC_REWRITER.register_symbolic(
        'mmcv.ops.modulated_deform_conv.ModulatedDeformConv2dFunction', ir=IR.ONNX
    )(modulated_deform_conv)
    BACKEND_MANAGERS.register('openvino')(CurrentOpenVINOManager)
    # inspect.stack() reads the sources of all frames: half an export's time.
    for module in (function_rewriter, symbolic_rewriter):
        module.get_frame_func = _calling_function
    # From Python 3.13, exec('import package') leaves no name in a function.
    for module in (function_rewriter, rewriter_utils):
        for name in ('copy', 'mmcv', 'mmdeploy', 'mmdet', 'mmdet_centernet2', 'torch'):
            vars(module).setdefault(name, import_module(name))


def _calling_function(top: int = 1) -> Any:
    """The global function that runs ``top`` frames up."""
    frame = sys._getframe(top)
    return frame.f_globals[frame.f_code.co_name]


def export__traced(*args: Any, **kwargs: Any) -> Any:
    """Keep to the tracing exporter, the only one that mmdeploy rewrites."""
    return FUNCTION_REWRITER.get_context(EXPORT).origin_func(*args, dynamo=False, **kwargs)


def topk__constant(input: Tensor, k: int, *args: Any, **kwargs: Any) -> Any:
    """Keep K a constant; callers make sure that there are K values."""
    return FUNCTION_REWRITER.get_context(TOPK).origin_func(input, int(k), *args, **kwargs)


def group_norm__standard(
    input: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> Tensor:
    """``InstanceNormalization`` of the groups, then the affine part, instead of a plugin."""
    ones = input.new_ones(num_groups)
    groups = input.reshape(input.size(0), num_groups, -1)
    result = F.instance_norm(groups, weight=ones, bias=0 * ones, eps=eps).reshape(input.shape)
    shape = (1, -1) + (1,) * (input.dim() - 2)
    return result * weight.reshape(shape) + bias.reshape(shape)


def modulated_deform_conv(
    g, input, offset, mask, weight, bias, stride, padding, dilation, groups, deform_groups
) -> Any:
    """``DeformConv``, the standard operator, instead of a custom one."""
    opset = get_ir_config(SYMBOLIC_REWRITER.get_context().cfg).get('opset_version', 11)
    if opset < DEFORM_OPSET:
        raise ValueError(
            f'deformable convolutions need ONNX opset {DEFORM_OPSET}, the deploy config asks for '
            f'{opset}: set ir_config.opset_version={DEFORM_OPSET}'
        )
    if bias is None:  # the exporter cannot leave out an input between others
        bias = g.op('Constant', value_t=torch.zeros(weight.type().sizes()[0]))
    return g.op(
        'DeformConv',
        *(input, weight, offset, bias, mask),
        strides_i=list(stride),
        pads_i=list(padding) * 2,
        dilations_i=list(dilation),
        group_i=groups,
        offset_group_i=deform_groups,
    )
