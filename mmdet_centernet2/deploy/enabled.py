"""Imported by the deploy configs' ``custom_imports``: calls ``enable``.

mmdeploy's own tools start processes that see the deploy config only.
"""

from .workarounds import enable

enable()
