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
ONEDL = {'mmengine': '0.10.12', 'mmcv': '2.3.6', 'mmdet': '3.5.1'}


@pytest.fixture
def pretend(monkeypatch):
    """Pretend that these versions are installed.

    None means missing, an exception fails on import.
    """
    monkeypatch.setattr(versions, 'installed_of', lambda family: [])

    def set_versions(onedl=False, **changes):
        if onedl:
            changes = {**ONEDL, **changes}
            names = {'OneDL': ['onedl-mmengine 0.10.12'], 'OpenMMLab': []}
            monkeypatch.setattr(versions, 'installed_of', names.get)
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
        dict(torch='2.6.0a0+32f93b1'),
        dict(torch='2.14.1+cu130'),
        dict(mmengine='0.10.12'),
        dict(mmcv='2.1.5'),
        dict(mmdet='3.3.1'),
        dict(onedl=True),
        dict(onedl=True, mmdet='3.5.2'),
    ],
)
def test_versions_in_range_pass(pretend, fitting):
    pretend(**fitting)
    versions.check_versions()


@pytest.mark.parametrize(
    'module, version, wanted',
    [
        ('torch', '2.5.1', 'torch>=2.6'),
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


@pytest.mark.parametrize(
    'module, version, wanted',
    [
        ('mmengine', '0.10.7', 'onedl-mmengine>=0.10.12,<1.0.0 is needed: pip install "onedl-mm'),
        ('mmcv', '2.1.0', 'onedl-mmcv>=2.3.6,<2.4.0 is needed: pip install "setuptools<81"'),
        ('mmcv', None, 'onedl-mmcv>=2.3.6,<2.4.0 is needed: pip install "setuptools<81"'),
        ('mmdet', '3.6.0', 'onedl-mmdetection>=3.5.1,<3.6.0 is needed: pip install "onedl-mm'),
    ],
)
def test_successors_are_mended_by_successors(pretend, module, version, wanted):
    pretend(onedl=True, **{module: version})
    with pytest.raises(ImportError) as error:
        versions.check_versions()
    found = f'found onedl-{module.replace("mmdet", "mmdetection")} {version}'
    assert (found if version else 'mmcv is missing') in str(error.value)
    assert wanted in str(error.value) and ' mmcv==' not in str(error.value)


def test_families_are_not_mixed(monkeypatch):
    installed = {'mmengine': '0.10.7', 'mmcv': '2.1.0', 'onedl-mmcv': '2.3.6'}

    def version(name):
        if name not in installed:
            raise versions.metadata.PackageNotFoundError
        return installed[name]

    monkeypatch.setattr(versions.metadata, 'version', version)
    message = 'found mmengine 0.10.7, mmcv 2.1.0 and onedl-mmcv 2.3.6, which .*pip uninstall -y mm'
    with pytest.raises(ImportError, match=message):
        versions.check_versions()
