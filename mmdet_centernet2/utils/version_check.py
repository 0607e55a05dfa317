"""Say which companion package is missing or unfit, and how to mend it."""
import importlib
import importlib.util
from dataclasses import dataclass
from typing import List, Optional

_SETUPTOOLS_FIX = 'pip install "setuptools<81"'
_MMCV_BUILD = ('pip install "setuptools<81" wheel ninja && '
               'pip install --no-build-isolation --no-cache-dir '
               '--force-reinstall --no-deps --no-binary mmcv "mmcv==2.1.0"')


@dataclass(frozen=True)
class Companion:
    """A package that has to be there, in a range of versions.

    Attributes:
        module: Name to import; also the name to install.
        minimum: First version that works.
        below: First version that no longer works; None if none is known.
        fix: The command that installs a working version.
    """
    module: str
    minimum: str
    below: Optional[str]
    fix: str

    @property
    def wanted(self) -> str:
        """The range as pip writes it, e.g. ``mmcv>=2.1.0,<2.2.0``."""
        upper = f',<{self.below}' if self.below else ''
        return f'{self.module}>={self.minimum}{upper}'

    def accepts(self, version: str) -> bool:
        """Compare release numbers; local and pre-release tags don't count.

        Vendors label their builds ``2.1.0a0+32f93b1`` or ``2.13.0+cpu``.
        """
        from packaging.version import Version
        release = Version(version).release
        if release < Version(self.minimum).release:
            return False
        return self.below is None or release < Version(self.below).release


# In the order in which they import each other.
COMPANIONS = (
    Companion('torch', '2.1', None, 'pip install "torch>=2.1"'),
    Companion('mmengine', '0.10.7', '1.0.0', 'pip install "mmengine==0.10.7"'),
    Companion('mmcv', '2.1.0', '2.2.0', _MMCV_BUILD),
    Companion('mmdet', '3.3.0', '3.4.0', 'pip install "mmdet==3.3.0"'),
)


def found_version(module: str) -> Optional[str]:
    """Version of an importable module.

    Args:
        module: Name of a top-level module.

    Returns:
        Its ``__version__``, or None when there is no such module.

    Raises:
        ImportError: The module is there, but fails to import.
    """
    if importlib.util.find_spec(module) is None:
        return None
    return str(importlib.import_module(module).__version__)


def has_module(name: str) -> bool:
    """Whether a module can be found (without importing it)."""
    return importlib.util.find_spec(name) is not None


def check_companion(companion: Companion) -> Optional[str]:
    """What is wrong with one package, in words; None if nothing is."""
    name, wanted = companion.module, companion.wanted
    try:
        version = found_version(name)
    except ImportError as error:
        return (f'{name} is installed but cannot be imported ({error}); '
                f'{_import_hint(str(error), companion)}')
    if version is None:
        return f'{name} is missing, {wanted} is needed: {companion.fix}'
    if not companion.accepts(version):
        return f'found {name} {version}, {wanted} is needed: {companion.fix}'
    return None


def _import_hint(message: str, companion: Companion) -> str:
    if 'libGL' in message or 'libgthread' in message:
        return ('OpenCV lacks a system library: pip uninstall -y opencv-python '
                '&& pip install opencv-python-headless')
    return f'reinstall it: {companion.fix}'


def check_mmcv_ops() -> Optional[str]:
    """What is wrong with mmcv's compiled operators; None if nothing is."""
    if not has_module('mmcv._ext'):
        return ('mmcv has no compiled operators (mmcv-lite, or built without '
                'torch): pip uninstall -y mmcv-lite; ' + _MMCV_BUILD)
    try:
        importlib.import_module('mmcv._ext')
    except ImportError as error:
        return ("mmcv's compiled operators do not fit this torch "
                f'({error}): {_MMCV_BUILD}')
    return None


def find_problems() -> List[str]:
    """Everything that keeps the package from working, one entry each."""
    if not has_module('packaging'):
        return ['packaging is missing: pip install packaging']
    problems = []
    if not has_module('pkg_resources'):
        problems.append(
            'pkg_resources is missing, which mmengine needs for bases such as '
            f"'mmdet::...' (setuptools 81 dropped it): {_SETUPTOOLS_FIX}")
    for companion in COMPANIONS:
        problem = check_companion(companion)
        if problem is None and companion.module == 'mmcv':
            problem = check_mmcv_ops()
        if problem is not None:
            # The ones further down import this one: their errors are echoes.
            return problems + [problem]
    return problems


def check_versions() -> None:
    """Check torch, mmengine, mmcv, mmdet and what they need at run time.

    Raises:
        ImportError: Something is missing, too old, too new or broken. The
            message names the package, the version found, the versions that
            work and the command that installs one.
    """
    problems = find_problems()
    if problems:
        raise ImportError('mmdet_centernet2 cannot be used here:\n' +
                          '\n'.join(f'  * {line}' for line in problems))
