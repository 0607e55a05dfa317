"""The scope ``mmdet_centernet2``, in which inherited configs are built.

A config with ``_base_ = 'mmdet_centernet2::...'`` marks what it inherits with
this scope, and mmengine then looks for registries of it. Those here are empty
children of mmdet's, where everything of this package is registered: what is
looked for is found in the parent.
"""
from typing import Dict

from mmdet import registry as mmdet_registry
from mmengine.registry import Registry

SCOPE = 'mmdet_centernet2'


def _children() -> Dict[str, Registry]:
    """A child, in our scope, for each of mmdet's registries."""
    parents = {
        name: value
        for name, value in vars(mmdet_registry).items()
        if isinstance(value, Registry)
    }
    return {
        name: Registry(parent.name, parent=parent, scope=SCOPE)
        for name, parent in parents.items()
    }


globals().update(_children())
