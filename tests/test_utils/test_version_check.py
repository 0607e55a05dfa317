"""Every message names what was found, what is wanted, and the remedy."""
import builtins
import sys
from types import ModuleType

import pytest

from mmdet_centernet2.utils import version_check
from mmdet_centernet2.utils.version_check import (COMPANIONS, check_versions,
                                                  find_problems)

FITTING = dict(torch='2.13.0+cpu', mmengine='0.10.7', mmcv='2.1.0',
               mmdet='3.3.0')


@pytest.fixture
def pretend(monkeypatch):
    """Pretend that these versions are installed; None means missing."""

    def set_versions(**versions):
        found = {**FITTING, **versions}
        monkeypatch.setattr(version_check, 'found_version', found.get)

    return set_versions


def test_the_environment_of_the_tests_is_fit():
    assert find_problems() == []
    check_versions()


@pytest.mark.parametrize('versions', [
    dict(torch='2.1.0'),
    dict(torch='2.1.0a0+32f93b1'),
    dict(torch='2.14.1+cu130'),
    dict(torch='3.0'),
    dict(mmengine='0.10.12'),
    dict(mmcv='2.1.5'),
    dict(mmdet='3.3.1'),
])
def test_versions_in_range_pass(pretend, versions):
    pretend(**versions)
    assert find_problems() == []


@pytest.mark.parametrize('module, version, wanted, fix', [
    ('torch', '2.0.1', 'torch>=2.1', 'pip install "torch>=2.1"'),
    ('torch', '1.13.1+cu117', 'torch>=2.1', 'pip install "torch>=2.1"'),
    ('mmengine', '0.10.3', 'mmengine>=0.10.7,<1.0.0',
     'pip install "mmengine==0.10.7"'),
    ('mmengine', '1.0.0', 'mmengine>=0.10.7,<1.0.0',
     'pip install "mmengine==0.10.7"'),
    ('mmcv', '2.2.0', 'mmcv>=2.1.0,<2.2.0', '--no-build-isolation'),
    ('mmcv', '1.7.2', 'mmcv>=2.1.0,<2.2.0', '"mmcv==2.1.0"'),
    ('mmdet', '3.2.0', 'mmdet>=3.3.0,<3.4.0', 'pip install "mmdet==3.3.0"'),
    ('mmdet', '2.28.4', 'mmdet>=3.3.0,<3.4.0', 'pip install "mmdet==3.3.0"'),
])
def test_versions_out_of_range(pretend, module, version, wanted, fix):
    pretend(**{module: version})
    with pytest.raises(ImportError) as error:
        check_versions()
    message = str(error.value)
    assert f'found {module} {version}' in message
    assert wanted in message
    assert fix in message


@pytest.mark.parametrize('module', [one.module for one in COMPANIONS])
def test_missing_package(pretend, module):
    pretend(**{module: None})
    with pytest.raises(ImportError, match=f'{module} is missing.*pip install'):
        check_versions()


def hide(monkeypatch, name: str) -> None:
    there = version_check.has_module
    monkeypatch.setattr(version_check, 'has_module',
                        lambda module: module != name and there(module))


def test_mmcv_without_operators(pretend, monkeypatch):
    pretend()
    hide(monkeypatch, 'mmcv._ext')
    with pytest.raises(ImportError, match='no compiled operators') as error:
        check_versions()
    assert '--no-binary mmcv' in str(error.value)


def test_mmcv_built_for_another_torch(pretend, monkeypatch):
    pretend()
    real = version_check.importlib.import_module

    def import_module(name, *args):
        if name == 'mmcv._ext':
            raise ImportError('undefined symbol: _ZN3c105ErrorC2E')
        return real(name, *args)

    monkeypatch.setattr(version_check.importlib, 'import_module',
                        import_module)
    with pytest.raises(ImportError, match='do not fit this torch.*_ZN3c10'):
        check_versions()


def test_setuptools_without_pkg_resources(pretend, monkeypatch):
    pretend()
    hide(monkeypatch, 'pkg_resources')
    with pytest.raises(ImportError, match='pip install "setuptools<81"'):
        check_versions()


def test_packaging_missing(monkeypatch):
    hide(monkeypatch, 'packaging')
    assert find_problems() == ['packaging is missing: pip install packaging']


def test_all_that_can_be_known_is_said_at_once(pretend, monkeypatch):
    pretend(mmdet='3.0.0')
    hide(monkeypatch, 'pkg_resources')
    assert len(find_problems()) == 2


@pytest.mark.parametrize('reason, hint', [
    ('libGL.so.1: cannot open shared object file', 'opencv-python-headless'),
    ('libcudart.so.12: cannot open shared object file', 'reinstall it'),
])
def test_package_that_does_not_import(monkeypatch, reason, hint):

    def fail(module):
        if module == 'mmcv':
            raise ImportError(reason)
        return FITTING[module]

    monkeypatch.setattr(version_check, 'found_version', fail)
    problem, = find_problems()
    assert problem.startswith('mmcv is installed but cannot be imported')
    assert reason in problem and hint in problem


def test_found_version_reads_the_module(monkeypatch):
    assert version_check.found_version('no_such_module_here') is None
    module = ModuleType('some_module')
    module.__version__ = '1.2'
    module.__spec__ = builtins.__spec__
    monkeypatch.setitem(sys.modules, 'some_module', module)
    assert version_check.found_version('some_module') == '1.2'
