"""Reading files of unknown origin: arrays come out, nothing is executed."""

import collections
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_centernet2.checkpoint import CheckpointError, read_checkpoint, tensors_of
from mmdet_centernet2.checkpoint.safe_pickle import load_arrays

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)

ARRAYS = {
    'matrix': np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    'fortran': np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    'strided': np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    'big_endian': np.arange(5, dtype='>i8'),
    'half': np.arange(4, dtype=np.float16),
    'empty': np.zeros((0, 3), np.float32),
    'scalar_array': np.array(2.5),
    'scalar': np.float32(1.25),
    'flags': np.array([True, False]),
}


class Call:
    """Pickles as a call of a function with some arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class State:
    """Pickles as an object whose state is a call."""

    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return collections.OrderedDict, (), {'x': self.call}


def hidings(call):
    """Places in a checkpoint where a call may hide."""
    objects = np.empty(1, object)
    objects[0] = call
    return {
        'alone': call,
        'value': {'model': {'a': call}},
        'beside': {'model': {'a': np.zeros(3)}, 'optimizer': [call]},
        'key': {(1, call): np.zeros(3)},
        'list': [[[call]]],
        'ordered': collections.OrderedDict(model=call),
        'object array': {'model': {'a': objects}},
        'state': {'model': State(call)},
    }


def _calls(sentinel):
    """Calls that would create the file ``sentinel``."""
    return {
        'os.system': Call(os.system, f'touch {sentinel}'),
        'open': Call(open, str(sentinel), 'w'),
        'touch': Call(Path.touch, sentinel),
        'exec': Call(exec, f'open({str(sentinel)!r}, "w")'),
        'numpy': Call(np.save, str(sentinel), [1]),
    }


def _sentinel(tmp_path):
    return tmp_path / 'executed.npy'


def _write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_arrays_come_out_bit_for_bit(tmp_path, protocol):
    content = {'model': ARRAYS, '__author__': 'someone', 'matching_heuristics': True}
    path = _write(tmp_path / 'a.pkl', pickle.dumps(content, protocol))
    tensors = tensors_of(read_checkpoint(path), path)
    assert list(tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        found = tensors[name].numpy()
        assert found.dtype == array.dtype.newbyteorder('=')
        assert found.shape == np.shape(array)
        assert np.array_equal(found, array)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=4),
    st.sampled_from(['<f4', '>f4', '<f8', '<i8', '>i4', '|u1', '|b1', '<f2']),
    st.sampled_from(PROTOCOLS),
    st.booleans(),
    st.randoms(),
)
def test_any_array_survives(shape, dtype, protocol, fortran, random):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = bytes(random.randrange(2) for _ in range(size))
    array = np.frombuffer(raw, dtype).reshape(shape)
    array = np.asfortranarray(array) if fortran else array.copy()
    file = io.BytesIO(pickle.dumps({'a': array}, protocol))
    found = load_arrays(file)['a']
    assert found.shape == array.shape
    assert found.tobytes() == array.astype(array.dtype.newbyteorder('=')).tobytes()


@pytest.mark.parametrize('core', ['numpy.core', 'numpy._core'])
def test_names_of_both_numpy_generations_are_read(core):
    array = np.arange(3.0)
    reconstruct = array.__reduce__()[0]
    from_buffer = array.__reduce_ex__(5)[0]  # protocol 5 has a function of its own
    here = reconstruct.__module__.rpartition('.')[0]
    for value in (array, Call(from_buffer, array.tobytes(), array.dtype, (3,), 'C')):
        text = pickle.dumps({'a': value}, 2).replace(here.encode(), core.encode())
        assert np.array_equal(load_arrays(io.BytesIO(text))['a'], array)


def test_python_2_pickle_is_read():
    # {'model': {'w': array([1, 2], '<f4')}} as Python 2 with numpy 1 wrote it.
    text = (
        b'\x80\x02}q\x00U\x05modelq\x01}q\x02U\x01wcnumpy.core.multiarray'
        b'\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87'
        b'Rq\x05(K\x01K\x02\x85cnumpy\ndtype\nq\x06U\x02f4K\x00K\x01\x87R'
        b'q\x07(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
        b'\x89U\x08\x00\x00\x80\x3f\x00\x00\x00\x40tbss.'
    )
    found = load_arrays(io.BytesIO(text))
    assert np.array_equal(found['model']['w'], np.array([1, 2], np.float32))


def test_the_traps_work(tmp_path):
    """What the next tests refuse would run if it were simply loaded."""
    sentinel = _sentinel(tmp_path)
    for call in _calls(sentinel).values():
        for content in hidings(call).values():
            loaded = pickle.loads(pickle.dumps(content))
            assert sentinel.exists()
            del loaded
            sentinel.unlink()


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('hidden', hidings(Call(len, ())))
def test_nothing_in_a_pickle_is_executed(tmp_path, protocol, hidden):
    sentinel = _sentinel(tmp_path)
    for call in _calls(sentinel).values():
        content = pickle.dumps(hidings(call)[hidden], protocol)
        path = _write(tmp_path / 'evil.pkl', content)
        with pytest.raises(CheckpointError, match='evil.pkl'):
            read_checkpoint(path)
        assert not sentinel.exists()
        assert path.read_bytes() == content


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('hidden', hidings(Call(len, ())))
def test_nothing_in_a_file_of_torch_is_executed(tmp_path, zipped, hidden):
    sentinel, path = _sentinel(tmp_path), tmp_path / 'evil.pth'
    for call in _calls(sentinel).values():
        torch.save(hidings(call)[hidden], path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(CheckpointError, match='evil.pth'):
            read_checkpoint(path)
        assert not sentinel.exists()


# Ways to name a function that pickle.dumps does not use.
@pytest.mark.parametrize(
    'text',
    [
        b"(S'touch {0}'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch {0}'\no.",
        b"cos\nsystem\n(S'touch {0}'\ntR.",
        b"}}(S'model'\n(S'touch {0}'\nios\nsystem\nu.",
    ],
)
def test_hand_written_pickles_are_not_executed(tmp_path, text):
    sentinel = _sentinel(tmp_path)
    content = text.decode().format(sentinel).encode()
    pickle.loads(content)
    assert sentinel.exists()
    sentinel.unlink()
    with pytest.raises(CheckpointError, match='os.system'):  # it is named
        read_checkpoint(_write(tmp_path / 'evil.pkl', content))
    assert not sentinel.exists()


def test_attributes_of_allowed_names_are_not_reached(tmp_path):
    # Dotted names (protocol 4) would otherwise walk into a module.
    text = b'\x80\x04\x8c\x05numpy\x8c\x17ndarray.__array_ufunc__\x93.'
    with pytest.raises(CheckpointError, match='numpy.ndarray.__array'):
        read_checkpoint(_write(tmp_path / 'a.pkl', text))


@pytest.mark.parametrize(
    'array, message',
    [
        (np.array([None], object), "an array of type 'O8'"),
        (np.array([[1, 'x']], object), "an array of type 'O8'"),
        (np.array(['text']), 'only'),
        (np.array([(1, 2.0)], 'i4,f4'), 'only'),
        (np.array([1j]), 'only'),
        (np.array(['2020-01-01'], 'M8[D]'), 'only'),
    ],
)
@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_other_arrays_are_refused(tmp_path, array, message, protocol):
    content = pickle.dumps({'model': {'a': array}}, protocol)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(_write(tmp_path / 'a.pkl', content))


def test_array_with_too_few_bytes_is_refused():
    text = pickle.dumps({'a': np.arange(4, dtype=np.uint8)}, 2)
    raw = b'\x00\x01\x02\x03'
    assert text.count(raw) == 1
    with pytest.raises(CheckpointError, match='damaged.*buffer size'):
        load_arrays(
            io.BytesIO(text.replace(b'X\x04\x00\x00\x00' + raw, b'X\x03\x00\x00\x00' + raw[:3]))
        )


def test_dictionaries_that_share_others_are_walked_once():
    node = {'array': np.arange(3.0)}
    for _ in range(100):  # 2 ** 100 paths
        node = {'a': node, 'b': node}
    node['itself'] = node
    found = load_arrays(io.BytesIO(pickle.dumps(node)))
    assert found['itself'] is found
    for _ in range(100):
        found = found['b']
    assert np.array_equal(found['array'], np.arange(3.0))


@pytest.mark.parametrize(
    'content, hint',
    [
        (b'', 'empty'),
        (b'<!DOCTYPE html><html><body>Sign in</body></html>', 'web page'),
        (b'\n  <html>quota exceeded</html>', 'web page'),
        (b'<?xml version="1.0"?><Error/>', 'web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid x\n', 'git lfs pull'),
        (b'hello, world', 'neither'),
        (b'{"model": {}}', 'neither'),
        (b'PK\x03\x04 and no archive', 'damaged'),
        (b'\x80\x04garbage', 'damaged'),
        (b'\x89PNG\r\n\x1a\n', 'neither'),
        (bytes(600), 'neither'),
    ],
)
def test_other_files_are_named(tmp_path, content, hint):
    path = _write(tmp_path / 'model.pth', content)
    with pytest.raises(CheckpointError, match=hint) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


def _saved(tmp_path, kind):
    tensors = {'model': {'a': torch.arange(300.0), 'b': torch.ones(7)}}
    path = tmp_path / 'whole'
    if kind == 'pickle':
        arrays = {k: v.numpy() for k, v in tensors['model'].items()}
        path.write_bytes(pickle.dumps({'model': arrays}, 4))
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == 'zip')
    return path.read_bytes()


@pytest.mark.parametrize('kind', ['pickle', 'zip', 'legacy'])
def test_cut_off_files_are_refused(tmp_path, kind):
    whole = _saved(tmp_path, kind)
    path = tmp_path / 'cut.pth'
    # Every part of the file, and the very ends.
    for size in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    path.write_bytes(whole)
    assert list(tensors_of(read_checkpoint(path), path)) == ['a', 'b']


def test_a_changed_bit_in_a_file_of_torch_is_noticed(tmp_path):
    whole = bytearray(_saved(tmp_path, 'zip'))
    where = whole.find(torch.arange(300.0).numpy().tobytes())
    whole[where + 101] ^= 4
    with pytest.raises(CheckpointError, match='checksum'):
        read_checkpoint(_write(tmp_path / 'a.pth', bytes(whole)))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_pickle_ends_in_a_checkpoint_error(data):
    text = bytearray(
        pickle.dumps({'a': np.arange(5.0), 'b': 'x'}, data.draw(st.sampled_from(PROTOCOLS)))
    )
    where = data.draw(st.integers(0, len(text) - 1))
    text[where] = data.draw(st.integers(0, 255))
    try:
        load_arrays(io.BytesIO(bytes(text)))
    except CheckpointError:
        pass  # anything else fails the test


def _tar(path):
    with tarfile.open(path, 'w') as archive:
        archive.add(_write(path.with_name('pickle'), b'\x80\x02}.'), 'pickle')


@pytest.mark.parametrize(
    'write, hint',
    [
        (_tar, 'is a tar archive'),
        (lambda path: torch.jit.script(torch.nn.Linear(2, 1)).save(path), 'TorchScript'),
        (lambda path: torch.save([torch.ones(3)], path), 'a list instead of'),
        (lambda path: _write(path, pickle.dumps({'a': np.zeros(3)}) + b'more'), 'after the end'),
    ],
)
@pytest.mark.filterwarnings('ignore:.*TorchScript')
def test_files_of_other_kinds_are_refused(tmp_path, write, hint):
    write(tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match=hint):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    'path, hint',
    [
        ('absent.pth', 'does not exist'),
        ('.', 'cannot be read: Is a directory'),
        ('https://example.com/model.pth', 'Download the file first'),
        ('detectron2://ImageNetPretrained/MSRA/R-50.pkl', 'Download'),
    ],
)
def test_paths_that_are_no_files(tmp_path, path, hint):
    with pytest.raises(CheckpointError, match=hint):
        read_checkpoint(path if '://' in path else tmp_path / path)


@pytest.mark.parametrize(
    'content, hint',
    [
        ({}, 'no tensor'),
        ({'model': {}}, 'no tensor'),
        ({'model': {'a': 'text'}}, "'a' is a str"),
        ({'model': {3: torch.ones(1)}}, 'no name of a tensor'),
        ({'model': {'a': torch.ones(2).to_sparse()}}, "'a' is a Tensor"),
    ],
)
def test_contents_that_are_no_tensors(content, hint):
    with pytest.raises(CheckpointError, match=hint):
        tensors_of(content, 'a.pth')


@pytest.mark.parametrize(
    'wrap',
    [
        lambda x: x,
        lambda x: {'model': x, 'iteration': 89999, 'optimizer': {'state': {}}},
        lambda x: {'state_dict': x, 'meta': {'epoch': 12}},
        lambda x: {'blobs': {**x, 'a_momentum': x['a'], 'lr': x['a']}},
    ],
)
def test_tensors_are_found_in_what_is_around_them(wrap):
    assert list(tensors_of(wrap({'a': torch.ones(3)}), 'a.pth')) == ['a']
