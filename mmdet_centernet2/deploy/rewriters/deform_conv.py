"""Deformable convolutions as the standard operator of opset 19."""
from typing import Any, Sequence

import torch
from mmdeploy.core import SYMBOLIC_REWRITER
from mmdeploy.utils import IR, get_ir_config

OPSET = 19


@SYMBOLIC_REWRITER.register_symbolic(
    'mmcv.ops.modulated_deform_conv.ModulatedDeformConv2dFunction',
    ir=IR.ONNX)
def modulated_deform_conv(g: Any, input: Any, offset: Any, mask: Any,
                          weight: Any, bias: Any, stride: Sequence[int],
                          padding: Sequence[int], dilation: Sequence[int],
                          groups: int, deform_groups: int) -> Any:
    """``DeformConv``; mmdeploy's own symbolic needs a custom operator.

    Raises:
        ValueError: If the opset has no such operator.
    """
    ctx = SYMBOLIC_REWRITER.get_context()
    opset = get_ir_config(ctx.cfg).get('opset_version', 11)
    if opset < OPSET:
        raise ValueError(
            f'deformable convolutions need ONNX opset {OPSET}, the deploy '
            f'config asks for {opset}: set ir_config.opset_version={OPSET}')
    if bias is None:
        # the exporter cannot leave out an input between others
        bias = g.op('Constant', value_t=torch.zeros(weight.type().sizes()[0]))
    return g.op(
        'DeformConv',
        input,
        weight,
        offset,
        bias,
        mask,
        strides_i=list(stride),
        pads_i=list(padding) * 2,
        dilations_i=list(dilation),
        group_i=groups,
        offset_group_i=deform_groups)
