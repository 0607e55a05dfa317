"""Let mmengine resolve ``_base_ = 'mmdet_centernet2::...'``.

mmengine knows the packages whose configs may be inherited from a fixed table,
and reads it before it runs any ``custom_imports``. So the entry has to be there
before this package is imported: installing the package also installs this file,
under the name given in ``setup.py``, as a start-up module. It imports nothing
but the standard library, and acts only when mmengine's config module is loaded.
"""
import sys
from importlib.machinery import PathFinder

PACKAGE = 'mmdet_centernet2'
_TARGET = 'mmengine.config.utils'


def add_entry(config_utils) -> None:
    """Enter this package in mmengine's table of packages with configs."""
    table = getattr(config_utils, 'MODULE2PACKAGE', None)
    if isinstance(table, dict):
        table.setdefault(PACKAGE, PACKAGE)


class _EntryAdder:
    """Import finder that adds the entry right after mmengine made the table."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != _TARGET:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            cls._extend(spec.loader)
        return spec

    @staticmethod
    def _extend(loader) -> None:
        load = loader.exec_module

        def load_and_add(module):
            load(module)
            add_entry(module)

        loader.exec_module = load_and_add


def enable() -> None:
    """Add the entry now, or as soon as mmengine's config module is imported."""
    module = sys.modules.get(_TARGET)
    if module is not None:
        add_entry(module)
    elif not any(finder.__name__ == _EntryAdder.__name__
                 for finder in sys.meta_path if isinstance(finder, type)):
        sys.meta_path.insert(0, _EntryAdder)
