"""Files that are whole or not there, and scratch folders that do not pile up."""

import os
import time

import pytest

from mmdet_centernet2.utils.files import scratch_folder, write_atomically


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / 'a'
    path.write_text('old')
    with pytest.raises(RuntimeError), write_atomically(path) as file:
        file.write(b'half')
        raise RuntimeError
    assert path.read_text() == 'old'
    with write_atomically(path) as file:
        file.write(b'new')
    assert path.read_text() == 'new'
    assert os.listdir(tmp_path) == ['a']


def test_scratch_of_killed_runs_goes_when_it_is_old(tmp_path):
    old, young, other = (tmp_path / name for name in ('.fetch-old', '.fetch-young', 'fetch-mine'))
    for folder in (old, young, other):
        folder.mkdir()
        (folder / 'part').write_text('half')
    two_days_ago = time.time() - 2 * 24 * 3600
    for folder in (old, other):
        os.utime(folder, (two_days_ago, two_days_ago))
    with scratch_folder(tmp_path, '.fetch-') as scratch:
        (scratch / 'file').write_text('whole')
    assert sorted(os.listdir(tmp_path)) == ['.fetch-young', 'fetch-mine']
