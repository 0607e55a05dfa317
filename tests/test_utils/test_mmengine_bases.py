"""mmengine learns of our configs, however it is imported."""
import subprocess
import sys
from types import SimpleNamespace

from mmengine.config.utils import MODULE2PACKAGE

from mmdet_centernet2.utils import mmengine_bases

STARTED_EARLY = '''
import importlib.util, sys
spec = importlib.util.spec_from_file_location('startup', sys.argv[1])
startup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(startup)
before = set(sys.modules)
startup.enable()
startup.enable()
assert sum(f is startup._EntryAdder for f in sys.meta_path) == 1
assert not set(sys.modules) - before, 'start-up must not import anything'
from mmengine.config.utils import MODULE2PACKAGE
assert MODULE2PACKAGE['mmdet_centernet2'] == 'mmdet_centernet2'
assert MODULE2PACKAGE['mmdet'] == 'mmdet'
assert 'mmdet_centernet2' not in sys.modules
'''


def test_enabled_before_mmengine_is_imported():
    done = subprocess.run(
        [sys.executable, '-S', '-c', 'import sys; sys.path += '
         f'{[p for p in sys.path if p]!r}\n' + STARTED_EARLY,
         mmengine_bases.__file__], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_enabled_by_import():
    assert MODULE2PACKAGE['mmdet_centernet2'] == 'mmdet_centernet2'


def test_an_entry_of_mmengine_itself_is_kept():
    table = SimpleNamespace(MODULE2PACKAGE={'mmdet_centernet2': 'theirs'})
    mmengine_bases.add_entry(table)
    assert table.MODULE2PACKAGE['mmdet_centernet2'] == 'theirs'
    mmengine_bases.add_entry(SimpleNamespace())  # a future without a table

