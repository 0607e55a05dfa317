"""Every message names what was found, what is wanted, and the remedy."""

from types import SimpleNamespace

import pytest

from mmdet_centernet2.utils import versions

FITTING = {
    'pkg_resources': '0',
    'torch': '2.13.0+cpu',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmcv._ext': '0',
    'mmdet': '3.3.0',
}


@pytest.fixture
def pretend(monkeypatch):
    """Pretend that these versions are installed.

    None means missing, an exception fails on import.
    """

    def set_versions(**changes):
        found = {**FITTING, **changes}

        def import_module(name):
            if isinstance(found[name], Exception):
                raise found[name]
            return SimpleNamespace(__version__=found[name])

        monkeypatch.setattr(versions, 'find_spec', found.get)
        monkeypatch.setattr(versions, 'importlib', SimpleNamespace(import_module=import_module))

    return set_versions


def test_the_environment_of_the_tests_is_fit():
    versions.check_versions()


@pytest.mark.parametrize(
    'fitting',
    [
        dict(torch='2.1.0a0+32f93b1'),
        dict(torch='2.14.1+cu130'),
        dict(mmengine='0.10.12'),
        dict(mmcv='2.1.5'),
        dict(mmdet='3.3.1'),
    ],
)
def test_versions_in_range_pass(pretend, fitting):
    pretend(**fitting)
    versions.check_versions()


@pytest.mark.parametrize(
    'module, version, wanted',
    [
        ('torch', '2.0.1', 'torch>=2.1'),
        ('mmengine', '0.10.3', 'mmengine>=0.10.7,<1.0.0'),
        ('mmengine', '1.0.0', 'mmengine>=0.10.7,<1.0.0'),
        ('mmcv', '2.2.0', 'mmcv>=2.1.0,<2.2.0'),
        ('mmdet', '3.2.0', 'mmdet>=3.3.0,<3.4.0'),
    ],
)
def test_versions_out_of_range(pretend, module, version, wanted):
    pretend(**{module: version})
    with pytest.raises(ImportError) as error:
        versions.check_versions()
    text = str(error.value)
    assert f'found {module} {version}, {wanted} is needed: pip inst' in text


@pytest.mark.parametrize('module', FITTING)
def test_missing_module(pretend, module):
    pretend(**{module: None})
    with pytest.raises(ImportError, match=f'{module} is missing.*pip '):
        versions.check_versions()


@pytest.mark.parametrize(
    'module, reason, remedy',
    [
        ('mmcv', 'libGL.so.1: cannot open', 'opencv-python-headless'),
        ('mmcv._ext', 'undefined symbol: _ZN3c10', '--no-binary mmcv'),
    ],
)
def test_module_that_does_not_import(pretend, module, reason, remedy):
    pretend(**{module: ImportError(reason)})
    with pytest.raises(ImportError) as error:
        versions.check_versions()
    text = str(error.value)
    assert f'{module} cannot be imported ({reason}' in text and remedy in text
