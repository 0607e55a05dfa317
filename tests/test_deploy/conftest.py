"""Exports that several tests use."""

import os
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from filelock import FileLock
from torch import nn

from tests.paths import ROOT
from tests.test_deploy.exporting import (
    build,
    deploy_cfg,
    export_model,
    kind_of,
    make_images,
    tiny_cfg,
)

Export = Callable[..., tuple[nn.Module, str]]


@pytest.fixture
def run_tool(monkeypatch):
    """Run a tool in this process; its exit status."""

    def run(name, *args):
        path = str(ROOT / f'tools/deploy_tools/{name}.py')
        monkeypatch.setattr(sys, 'argv', [path, *map(str, args)])
        monkeypatch.setattr(sys, 'path', [*sys.path])
        try:
            runpy.run_path(path, run_name='__main__')
        except SystemExit as end:
            return end.code
        return 0

    return run


@pytest.fixture(scope='session')
def exported(tmp_path_factory) -> Export:
    """Gives the model of a family, and its graph for onnxruntime, any size and batch.

    The file is written once, for all tests and processes: do not change it.
    """
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent  # that of all workers
    return partial(export_once, folder / 'exported')


def export_once(folder: Path, family: str) -> tuple[nn.Module, str]:
    deploy = deploy_cfg(f'{kind_of(family)}_onnxruntime_dynamic')
    seed = 3 if family == 'masks' else 0  # with which it finds something in each photograph
    model = build(tiny_cfg(family), deploy, seed)
    target = folder / family
    target.mkdir(parents=True, exist_ok=True)
    with FileLock(target / 'lock'):
        if not (target / 'done').exists():
            export_model(model, deploy, make_images([(128, 128)]), target)
            (target / 'done').touch()
    return model, str(target / 'end2end.onnx')
