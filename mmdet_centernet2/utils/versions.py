"""Say which companion package is missing or unfit, and how to mend it."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

_MMCV_BUILD = (
    'pip install "setuptools<81" wheel ninja && '
    'pip install --no-build-isolation --no-cache-dir '
    '--force-reinstall --no-deps --no-binary mmcv "mmcv==2.1.0"'
)
#: Module: first version that works, first that no longer does, and the command
#: that installs one; in the order in which they import each other.
COMPANIONS = {
    'torch': ('2.1', None, 'pip install "torch>=2.1"'),
    'mmengine': ('0.10.7', '1.0.0', 'pip install "mmengine==0.10.7"'),
    'mmcv': ('2.1.0', '2.2.0', _MMCV_BUILD),
    'mmcv._ext': (None, None, 'pip uninstall -y mmcv-lite; ' + _MMCV_BUILD),
    'mmdet': ('3.3.0', '3.4.0', 'pip install "mmdet==3.3.0"'),
}


def check_versions() -> None:
    """Check torch, mmengine, mmcv with its operators, and mmdet.

    Raises:
        ImportError: With the package, the version found, the versions that
            work and the command that installs one.
    """
    problem = None
    if find_spec('pkg_resources') is None:
        problem = (
            'pkg_resources is missing, which mmengine needs for bases '
            "such as 'mmdet::...' (setuptools 81 dropped it): "
            'pip install "setuptools<81"'
        )
    for module, (minimum, below, fix) in COMPANIONS.items():
        problem = problem or _problem(module, minimum, below, fix)
    if problem:
        raise ImportError(f'mmdet_centernet2 cannot be used here: {problem}')


def _problem(module: str, minimum: str | None, below: str | None, fix: str) -> str | None:
    """What is wrong with a module, None if nothing is."""
    from packaging.version import Version

    wanted = (
        f'{module}>={minimum}' + (f',<{below}' if below else '')
        if minimum
        else "mmcv's compiled operators"
    )
    if find_spec(module) is None:
        return f'{module} is missing, {wanted} is needed: {fix}'
    try:
        version = getattr(importlib.import_module(module), '__version__', '0')
    except ImportError as error:
        if 'libGL' in str(error) or 'libgthread' in str(error):
            fix = (
                'OpenCV lacks a system library: pip uninstall -y '
                'opencv-python && pip install opencv-python-headless'
            )
        return f'{module} cannot be imported ({error}): {fix}'
    # vendors label their builds 2.1.0a0+32f93b1 or 2.13.0+cpu
    release = Version(str(version)).release
    if minimum and (
        release < Version(minimum).release or (below and release >= Version(below).release)
    ):
        return f'found {module} {version}, {wanted} is needed: {fix}'
    return None
