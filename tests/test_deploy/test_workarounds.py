"""What ``enable`` replaces in mmdeploy, and that nothing else does."""

import subprocess
import sys

import onnx
import pytest
import torch
from mmdeploy.core import FUNCTION_REWRITER, MODULE_REWRITER, RewriterContext
from mmdeploy.core.rewriters import function_rewriter, rewriter_utils
from torch import nn

from mmdet_centernet2.deploy import enable
from mmdet_centernet2.deploy.rewriters.detectors import IMAGE_SIZES
from tests.paths import ROOT
from tests.test_deploy.exporting import deploy_cfg

IMPORT_ONLY = """
import mmdeploy.apis.onnx  # registers mmdeploy's own
import mmdeploy.codebase.mmdet.deploy.object_detection as detection
from mmdeploy.backend.base import get_backend_manager
from mmdeploy.core import FUNCTION_REWRITER, MODULE_REWRITER, SYMBOLIC_REWRITER
from mmdeploy.core.rewriters import function_rewriter, symbolic_rewriter
def state():
    registries = [rewriter._registry._rewrite_records for rewriter in (
        FUNCTION_REWRITER, MODULE_REWRITER, SYMBOLIC_REWRITER)]
    records = {(i, name): [id(record) for record in found]
               for i, registry in enumerate(registries)
               for name, found in registry.items()
               if not name.startswith('mmdet_centernet2.')}
    return records, dict(detection.MMDET_TASK.module_dict), [
        get_backend_manager('openvino'),
        function_rewriter.get_frame_func, symbolic_rewriter.get_frame_func]
before = state()
from mmdet_centernet2.deploy import enable
assert state() == before
enable()
assert state()[1] != before[1]
"""


@pytest.mark.slow
def test_importing_replaces_nothing():
    done = subprocess.run(
        [sys.executable, '-c', IMPORT_ONLY], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_functions_are_found_where_exec_leaves_no_name(monkeypatch):
    """As in Python 3.13."""

    def no_names(code):
        exec(code, {})

    enable()
    monkeypatch.setattr(rewriter_utils, 'exec', no_names, raising=False)
    names = {
        name.split('.')[0]
        for registry in (FUNCTION_REWRITER, MODULE_REWRITER)
        for name in registry._registry._rewrite_records
    }
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
            Best(),
            (torch.rand(2, 9),),
            path,
            input_names=['x'],
            dynamic_axes=dict(x={1: 'n'}),
            opset_version=19,
        )
    graph = onnx.load(path).graph
    constants = {v.name for v in graph.initializer} | {
        n.output[0] for n in graph.node if n.op_type == 'Constant'
    }
    (topk,) = (n for n in graph.node if n.op_type == 'TopK')
    assert topk.input[1] in constants


def test_the_second_input_has_the_name_of_the_configs():
    names = deploy_cfg('detection_onnxruntime_static').ir_config.input_names
    assert names == ['input', IMAGE_SIZES]
