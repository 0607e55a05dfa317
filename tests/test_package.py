"""The package as users install it: from a wheel, or editable from a clone."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mmdet_centernet2
from tests import _tiny
from tests.paths import CONFIGS, ROOT

pytestmark = pytest.mark.slow

NOT_SOURCES = shutil.ignore_patterns(
    '.git',
    '.venv*',
    '.mim',
    'build',
    'dist',
    'work_dirs',
    '__pycache__',
    '*.egg-info',
    '.*_cache',
    '.hypothesis',
    'tests',
)
CLONE_ONLY = (
    'tools/env/',
    'tools/quickstart',
    'tools/run_tests.sh',
    'tools/analysis_tools/speed',
    'tools/dataset_converters/tree_tiles.py',
)


@pytest.fixture(scope='module')
def sources(tmp_path_factory) -> Path:
    """A copy of the repository to build in, so that nothing is left behind."""
    folder = tmp_path_factory.mktemp('sources') / 'repository'
    shutil.copytree(ROOT, folder, ignore=NOT_SOURCES)
    return folder


def run_python(*arguments: str, **kwargs) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(sources, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp('wheel')
    command = '-m pip wheel --no-deps --no-build-isolation --disable-pip-version-check -w'
    run_python(*command.split(), str(out), str(sources))
    return next(out.glob('*.whl'))


@pytest.fixture(scope='module')
def editable_wheel(sources, tmp_path_factory) -> Path:
    """What pip installs for ``pip install -e .``."""
    out = tmp_path_factory.mktemp('editable')
    code = 'import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])'
    run_python('-c', code, str(out), cwd=sources)
    return next(out.glob('*.whl'))


def unpacked(wheel: Path, folder: Path) -> Path:
    """Lay a wheel out as an installation would."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def relative(folder: Path, pattern: str) -> set:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob(pattern)
        if '__pycache__' not in path.parts
    }


def test_wheel_holds_every_module(sources, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = relative(sources, '*.py')
    wanted = {name for name in modules if name.startswith('mmdet_centernet2/')}
    assert len(wanted) > 20
    assert wanted <= names


def test_wheel_holds_configs_and_tools_where_mmengine_looks(sources, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    mim = 'mmdet_centernet2/.mim/'
    configs = {f'configs/{name}' for name in relative(CONFIGS, '*.py')}
    tools = {f'tools/{name}' for name in relative(sources / 'tools', '*.*')}
    tools = {name for name in tools if not name.startswith(CLONE_ONLY)}
    assert len(configs) > 3 and 'tools/train.py' in tools
    wanted = {*configs, *tools, 'model-index.yml'}
    assert {mim + name for name in wanted} <= names


def test_wheel_holds_nothing_else(wheel):
    tops = {name.split('/')[0] for name in zipfile.ZipFile(wheel).namelist()}
    info = f'mmdet_centernet2-{mmdet_centernet2.__version__}.dist-info'
    assert tops == {'mmdet_centernet2', info}  # nothing at Python's start
    for name in zipfile.ZipFile(wheel).namelist():
        assert not name.startswith(tuple('mmdet_centernet2/.mim/' + part for part in CLONE_ONLY))


def test_editable_install_links_to_the_clone(sources, editable_wheel):
    mim = sources / 'mmdet_centernet2' / '.mim'
    for part in ('configs', 'tools', 'model-index.yml'):
        assert (mim / part).resolve() == (sources / part).resolve()
        assert not os.path.isabs(os.readlink(mim / part))


# Runs programs in an interpreter that sees one installation and no other: no
# site folders, then the installed one, then those of the libraries.
ISOLATED = """
import json, runpy, site, sys
installed, libraries, quick_processes, commands = json.loads(sys.argv[1])
sys.path[:] = [path for path in sys.path if path]
site.addsitedir(installed)
sys.path += [path for path in libraries if path not in sys.path]
import setuptools  # has distutils, as its site folder has; Python 3.12 lacks it
runpy.run_path(quick_processes)
for sys.argv in commands:
    runpy.run_path(sys.argv[0], run_name='__main__')
"""


def run_isolated(installed: Path, *commands: list, cwd: Path) -> str:
    libraries = [
        path
        for path in sys.path
        if Path(path).is_dir() and not (Path(path) / 'mmdet_centernet2').exists()
    ]
    quick_processes = ROOT / 'tests/quick_processes/sitecustomize.py'
    spec = json.dumps([installed, libraries, quick_processes, commands], default=str)
    env = {**os.environ, 'PYTHONPATH': ''}
    return run_python('-S', '-c', ISOLATED, spec, cwd=cwd, env=env)


WHERE = """
import mmdet_centernet2
from mmengine.config import Config
print('found', Config.fromfile('config.py').model.rpn_head.type, mmdet_centernet2.__file__)
"""
INHERITING = """
_base_ = ('mmdet_centernet2::'
          'centernet2/centernet2_r50-caffe_fpn_ms-1x_coco.py')
model = dict(backbone=dict(init_cfg=None))
"""


@pytest.fixture
def user_folder(tmp_path) -> Path:
    """Holds a config that inherits one of ours."""
    folder = tmp_path / 'mine'
    folder.mkdir()
    (folder / 'config.py').write_text(INHERITING)
    (folder / 'where.py').write_text(WHERE)
    return folder


def assert_config_inherits(said: str, holder: Path) -> None:
    """As ``where.py`` prints it; onedl's mmdet prints something, too."""
    kind, file = re.search(r'found (\S+) (\S+)', said).groups()
    assert kind == 'CenterNet2ProposalHead'
    assert Path(file).parent == holder / 'mmdet_centernet2'


def test_inheriting_config_with_an_editable_install(editable_wheel, tmp_path, user_folder, sources):
    installed = unpacked(editable_wheel, tmp_path / 'installed')
    assert_config_inherits(run_isolated(installed, ['where.py'], cwd=user_folder), sources)


def as_options(options: dict) -> list:
    """Config keys and values as ``--cfg-options`` takes them."""
    words = []
    for key, value in options.items():
        if isinstance(value, dict):
            words += as_options({f'{key}.{k}': v for k, v in value.items()})
        elif isinstance(value, (list, tuple)):
            words.append(f'{key}=[{",".join(map(str, value))}]')
        else:
            words.append(f'{key}={value}')
    return words


def test_installed_tools_train_and_test_from_any_folder(wheel, tmp_path, user_folder):
    """The tools in the wheel, which is what ``mim train`` runs."""
    installed = unpacked(wheel, tmp_path / 'installed')
    data = _tiny.write_dataset(user_folder / 'data')
    options = as_options(
        {
            **_tiny._model_options(),
            **_tiny._data_options(data, min(_tiny.SIZE)),
            'train_cfg._delete_': True,
            'train_cfg.type': 'IterBasedTrainLoop',
            'train_cfg.max_iters': 2,
            'default_hooks.checkpoint.interval': 2,
        }
    )
    tools, more = installed / 'mmdet_centernet2' / '.mim' / 'tools', ['--cfg-options', *options]
    train = [tools / 'train.py', 'config.py', '--work-dir', 'run', *more]
    test = [tools / 'test.py', 'config.py', 'run/iter_2.pth', *more]
    said = run_isolated(installed, ['where.py'], train, test, cwd=user_folder)
    assert_config_inherits(said, installed)
    assert 'Average Precision' in said


def test_version_is_written_once():
    major, minor, patch = mmdet_centernet2.version_info
    assert mmdet_centernet2.__version__ == f'{major}.{minor}.{patch}'
    assert mmdet_centernet2.__version__ not in (ROOT / 'setup.cfg').read_text()
