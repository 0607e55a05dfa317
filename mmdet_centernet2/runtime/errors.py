"""Errors whose message is meant for the user."""


class DeployedModelError(Exception):
    """A deployed model cannot do what was asked."""


class ModelFileError(DeployedModelError):
    """A file is no model, or not one that this package exported."""


class ImageError(DeployedModelError):
    """An image is not there or cannot be decoded."""
