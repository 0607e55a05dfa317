"""What mmengine calls when it meets the scope of this package."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register mmdet's modules; ours are, once the package is imported.

    Args:
        init_default_scope (bool): Whether mmdet becomes the default scope.
    """
    # here, because version checks must run before mmdet is imported
    from mmdet.utils import register_all_modules as register_mmdet
    register_mmdet(init_default_scope)
