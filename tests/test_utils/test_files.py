"""Files that are whole or not there."""

import os

import pytest

from mmdet_centernet2.utils.files import write_atomically


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
