"""The notebook of the docs runs from top to bottom."""

import json
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.paths import ROOT


@pytest.mark.slow
def test_own_data(tmp_path, monkeypatch):
    folder = Path(sys.executable).parent  # has the command centernet2
    monkeypatch.setenv('PATH', f'{folder}{os.pathsep}{os.environ["PATH"]}')
    notebook = nbformat.read(ROOT / 'docs/own_data.ipynb', as_version=4)
    for cell in notebook.cells:  # fewer passes than its pictures need
        cell.source = cell.source.replace('--epochs 10', '--epochs 3')
    resources = dict(metadata=dict(path=str(tmp_path)))
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get('outputs', ())]
    assert sum('image/png' in output.get('data', ()) for output in outputs) == 3
    assert json.loads((tmp_path / 'run/metrics.json').read_text())['mAP_50'] > 0.5
    assert len(list((tmp_path / 'found/vis').iterdir())) == 8
    assert (tmp_path / 'why.html').is_file()
