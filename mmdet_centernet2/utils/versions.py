"""Say which companion package is missing or unfit, and how to mend it."""

from __future__ import annotations

import importlib
from importlib import metadata
from importlib.util import find_spec

#: Family: for each module, its distribution, the first version that works and
#: the first that no longer does; in the order in which they import each other.
#: The second are the maintained successors of the first.
FAMILIES = {
    'OpenMMLab': {
        'mmengine': ('mmengine', '0.10.7', '1.0.0'),
        'mmcv': ('mmcv', '2.1.0', '2.2.0'),  # mmdet 3.3 itself refuses 2.2
        'mmdet': ('mmdet', '3.3.0', '3.4.0'),
    },
    'OneDL': {
        'mmengine': ('onedl-mmengine', '0.10.12', '1.0.0'),
        'mmcv': ('onedl-mmcv', '2.3.6', '2.4.0'),
        'mmdet': ('onedl-mmdetection', '3.5.1', '3.6.0'),
    },
}
TORCH = '2.6'
_UNFIT = 'mmdet_centernet2 cannot be used here: '


def installed_of(family: str) -> list[str]:
    """Distributions of a family that are installed, with their versions."""
    found = []
    for name, _, _ in FAMILIES[family].values():
        try:
            found.append(f'{name} {metadata.version(name)}')
        except metadata.PackageNotFoundError:
            pass
    return found


def check_versions() -> None:
    """Check torch, mmengine, mmcv with its operators, and mmdet.

    Raises:
        ImportError: With the package, the version found, the versions that
            work and the command that installs one.
    """
    first, second = (installed_of(family) for family in FAMILIES)
    if first and second:
        every = ' '.join(name for family in FAMILIES.values() for name, _, _ in family.values())
        raise ImportError(
            f'{_UNFIT}found {", ".join(first)} and {", ".join(second)}, which overwrite each other '
            f'or do not fit: pip uninstall -y {every}, then install one family (docs/install.md)'
        )
    if not second and find_spec('pkg_resources') is None:
        raise ImportError(
            f"{_UNFIT}pkg_resources is missing, which mmengine needs for bases such as 'mmdet::...'"
            ' (setuptools 81 dropped it): pip install "setuptools<81"'
        )
    _check('torch', f'torch>={TORCH}', f'pip install "torch>={TORCH}"', TORCH)
    for module, (name, minimum, below) in FAMILIES['OneDL' if second else 'OpenMMLab'].items():
        fix = f'pip install "{name}=={minimum}"'
        if module == 'mmcv':
            fix = (
                'pip install "setuptools<81" wheel ninja && pip install --no-build-isolation '
                f'--no-cache-dir --force-reinstall --no-deps --no-binary {name} "{name}=={minimum}"'
            )
        _check(module, f'{name}>={minimum},<{below}', fix, minimum, below)
        if module == 'mmcv':
            fix = f'pip uninstall -y mmcv-lite; {fix}'
            _check('mmcv._ext', "mmcv's compiled operators", fix)


def _check(module: str, wanted: str, fix: str, minimum: str = '0', below: str = '999') -> None:
    """Check that a module can be imported, and its version."""
    from packaging.version import Version

    if find_spec(module) is None:
        raise ImportError(f'{_UNFIT}{module} is missing, {wanted} is needed: {fix}')
    try:
        version = getattr(importlib.import_module(module), '__version__', '0')
    except ImportError as error:
        if 'libGL' in str(error) or 'libgthread' in str(error):
            fix = (
                'OpenCV lacks a system library: pip uninstall -y opencv-python && '
                'pip install opencv-python-headless'
            )
        raise ImportError(f'{_UNFIT}{module} cannot be imported ({error}): {fix}') from error
    # vendors label their builds 2.1.0a0+32f93b1 or 2.13.0+cpu
    if not Version(minimum).release <= Version(str(version)).release < Version(below).release:
        name = wanted.partition('>')[0]
        raise ImportError(f'{_UNFIT}found {name} {version}, {wanted} is needed: {fix}')
