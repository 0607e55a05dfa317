"""Helpers that know nothing of models or data."""


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register mmdet's modules; mmengine calls this for our scope.

    Args:
        init_default_scope: Whether mmdet becomes the default scope.
    """
    # here: versions are checked before mmdet is imported
    from mmdet.utils import register_all_modules as register_mmdet

    register_mmdet(init_default_scope)
