"""Workarounds for mmdeploy: each where it is needed, and only there."""
import sys
from types import SimpleNamespace

import onnx
import torch
from mmdeploy.core import (FUNCTION_REWRITER, MODULE_REWRITER,
                           RewriterContext)
from mmdeploy.core.rewriters import function_rewriter, rewriter_utils
from torch import nn
from torch.onnx import symbolic_opset9

from mmdet_centernet2.deploy import compat
from mmdet_centernet2.deploy.rewriters.detectors import IMAGE_SIZES
from tests.test_deploy.exporting import deploy_cfg


def test_cast_long_comes_back_and_an_own_one_stays(monkeypatch):
    monkeypatch.delattr(symbolic_opset9, '_cast_Long')
    compat.restore_cast_long()
    graph = SimpleNamespace(op=lambda *args, **kwargs: (args, kwargs))
    assert symbolic_opset9._cast_Long(graph, 'x', False) == (('Cast', 'x'),
                                                             dict(to_i=7))

    def own(g, value, non_blocking):
        return value

    monkeypatch.setattr(symbolic_opset9, '_cast_Long', own)
    compat.restore_cast_long()
    assert symbolic_opset9._cast_Long is own


def test_the_tracing_exporter_is_asked_for_where_there_are_two():

    def old(model, args, f, verbose=False):
        pass

    def new(model, args, f, dynamo=True):
        pass

    assert not compat.has_new_exporter(old)
    assert compat.has_new_exporter(new)


def test_functions_are_found_where_exec_leaves_no_name(monkeypatch):
    """As in Python 3.13."""

    def no_names(code):
        exec(code, {})

    monkeypatch.setattr(rewriter_utils, 'exec', no_names, raising=False)
    names = {name.split('.')[0] for registry in (FUNCTION_REWRITER,
                                                 MODULE_REWRITER)
             for name in registry._registry._rewrite_records}
    assert {'torch', 'mmdet', 'mmdet_centernet2'} <= names
    for name in names:
        found = rewriter_utils.eval_with_import(name)
        assert found is sys.modules[name]
        assert vars(function_rewriter)[name] is found


def test_k_is_a_constant_of_a_dynamic_graph(tmp_path):
    """mmdeploy's own rewriter computes it from the input."""

    class Best(nn.Module):

        def forward(self, x):
            return x.topk(min(3, x.size(1)), dim=1).values

    path = str(tmp_path / 'best.onnx')
    cfg = deploy_cfg('detection_onnxruntime_dynamic')
    with RewriterContext(cfg, backend='onnxruntime', opset=19):
        torch.onnx.export(
            Best(), (torch.rand(2, 9), ), path, input_names=['x'],
            dynamic_axes=dict(x={1: 'n'}), opset_version=19)
    graph = onnx.load(path).graph
    constants = {v.name for v in graph.initializer} | {
        n.output[0] for n in graph.node if n.op_type == 'Constant'}
    topk, = (n for n in graph.node if n.op_type == 'TopK')
    assert topk.input[1] in constants


def caller_of_get_frame_func():
    return function_rewriter.get_frame_func(1)


def test_rewriters_find_their_function():
    assert caller_of_get_frame_func() is caller_of_get_frame_func


def test_installing_again_changes_nothing():
    before = symbolic_opset9._cast_Long
    compat.install()
    assert symbolic_opset9._cast_Long is before


def test_the_second_input_has_the_name_of_the_configs():
    names = deploy_cfg('detection_onnxruntime_static').ir_config.input_names
    assert names == ['input', IMAGE_SIZES]
