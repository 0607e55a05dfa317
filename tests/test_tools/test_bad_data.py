"""Data that training meets late end it with one line, too."""

import subprocess
import sys

import pytest
from PIL import Image

from tests._tiny import tiny_config, write_dataset
from tests.paths import ROOT


@pytest.mark.slow
def test_image_of_another_size_in_a_worker_process(tmp_path):
    write_dataset(tmp_path / 'data')
    for path in (tmp_path / 'data' / 'images').glob('*.png'):
        Image.open(path).resize((64, 48)).save(path)
    cfg = tiny_config(tmp_path / 'data', train_dataloader__num_workers=1)
    cfg.dump(tmp_path / 'tiny.py')
    done = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / 'train.py'), 'tiny.py'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    (last,) = [line for line in done.stderr.splitlines() if 'error' in line]
    assert last.startswith('train.py: error: ')
    assert 'is 64x48 pixels, but' in last
    assert 'annotations.json says 128x96' in last
    assert 'Traceback' not in done.stderr
