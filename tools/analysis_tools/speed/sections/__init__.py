"""The sections, registered in the order in which they are run."""

from . import models, parts, data, gpu  # noqa: F401  # isort: skip
