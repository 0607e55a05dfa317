"""The version of the package; the only place where it is written."""

__version__ = '0.1.0'
version_info = tuple(int(part) for part in __version__.split('.'))
