"""Fetching a pinned wheel: from pip's side everything can go wrong."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmdet_centernet2.utils import pinned_wheel as pw
from mmdet_centernet2.utils.pinned_wheel import PinnedFileError, fetch_wheel, read_member
from tests.wheels import write_wheel


@pytest.fixture
def source(tmp_path):
    return tmp_path / 'stand_in-1.0-py3-none-any.whl'


@pytest.fixture
def wheel(source):
    return write_wheel(source, {'a.txt': b'content ' * 50})


@pytest.fixture
def pip(monkeypatch, source):
    """Stands in for ``pip download``; says how it is called and behaves."""
    state = SimpleNamespace(calls=[], stderr='', returncode=0, data=None)

    def run(command, **kwargs):
        state.calls.append(command)
        if not state.returncode:
            folder = Path(command[command.index('--dest') + 1])
            data = source.read_bytes() if state.data is None else state.data
            (folder / source.name).write_bytes(data)
        return SimpleNamespace(returncode=state.returncode, stderr=state.stderr, stdout='')

    monkeypatch.setattr(pw.subprocess, 'run', run)
    return state


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return pw.downloads_dir()


def test_fetched_once_then_offline(wheel, source, pip, cache):
    first = fetch_wheel(wheel)
    assert first.read_bytes() == source.read_bytes()
    assert fetch_wheel(wheel) == first
    assert len(pip.calls) == 1
    assert '--no-deps' in pip.calls[0]
    assert 'stand-in==1.0' in pip.calls[0]
    assert [p.name for p in cache.iterdir()] == [source.name]


def test_damaged_cache_is_fetched_again(wheel, source, pip, cache):
    fetch_wheel(wheel).write_bytes(b'half of i')
    assert fetch_wheel(wheel).read_bytes() == source.read_bytes()
    assert len(pip.calls) == 2


def test_other_bytes_than_pinned_are_not_kept(wheel, pip, cache):
    pip.data = b'a wheel of another build'
    with pytest.raises(PinnedFileError, match=f'instead of {wheel.sha256}'):
        fetch_wheel(wheel)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    'stderr, message',
    [
        (
            'ERROR: No matching distribution found for stand-in==1.0\nhint\n',
            'No matching distribution.*network.*pip download',
        ),
        ('/usr/bin/python3: No module named pip\n', 'No module named pip'),
        ('', 'pip said nothing'),
    ],
)
def test_pips_failures_are_explained(wheel, pip, cache, stderr, message):
    pip.returncode, pip.stderr = 1, stderr
    with pytest.raises(PinnedFileError, match=message):
        fetch_wheel(wheel)
    assert list(cache.iterdir()) == []


def test_folder_that_cannot_be_made_is_named(wheel, pip, cache, tmp_path):
    (tmp_path / 'cache').write_text('')
    with pytest.raises(PinnedFileError, match='cannot write to .*XDG_CACHE_HOME'):
        fetch_wheel(wheel)


def test_broken_zip_and_missing_member_are_named(wheel, source, tmp_path):
    assert read_member(source, 'a.txt').startswith(b'content')
    with pytest.raises(PinnedFileError, match="no item named 'b.txt'"):
        read_member(source, 'b.txt')
    broken = tmp_path / 'broken.whl'
    broken.write_bytes(source.read_bytes()[:60])
    with pytest.raises(PinnedFileError, match='cannot be read .*zip'):
        read_member(broken, 'a.txt')


def test_cache_folder_follows_the_users(monkeypatch):
    monkeypatch.setitem(os.environ, 'XDG_CACHE_HOME', '/somewhere')
    assert pw.downloads_dir() == Path('/somewhere/mmdet_centernet2/downloads')
    monkeypatch.setitem(os.environ, 'XDG_CACHE_HOME', '')
    assert pw.downloads_dir() == Path.home() / ('.cache/mmdet_centernet2/downloads')
