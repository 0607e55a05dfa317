"""The scope ``mmdet_centernet2``: a registry below each of mmdet's.

Most of this package is registered in mmdet's registries, under names that
mmdet and mmcv do not have. A class that has to carry one of their names,
because tools look for it in the config, is registered here instead and asked
for with ``_scope_='mmdet_centernet2'``. What is not found here is looked for
in mmdet's registry.

mmengine needs these registries, too: a config with
``_base_ = 'mmdet_centernet2::...'`` marks what it inherits with this scope.
"""

from mmdet import registry as mmdet_registry
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import FUNCTIONS, Registry

SCOPE = 'mmdet_centernet2'
# Whose configs may be inherited with '::'. mmengine takes the folder of this
# module; of the package's own name it would ask pip, which does not know where
# an editable install is.
MODULE2PACKAGE.setdefault(SCOPE, f'{SCOPE}.version')


def _children() -> dict[str, Registry]:
    """A child, in our scope, for each of mmdet's registries."""
    parents = {
        name: value for name, value in vars(mmdet_registry).items() if isinstance(value, Registry)
    }
    # of mmengine's own, which mmdet has no child of: what collates a batch
    parents['FUNCTIONS'] = FUNCTIONS
    return {
        name: Registry(parent.name, parent=parent, scope=SCOPE) for name, parent in parents.items()
    }


TRANSFORMS: Registry  # one of those that follow
globals().update(_children())
