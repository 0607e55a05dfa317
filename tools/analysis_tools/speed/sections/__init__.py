"""The sections, registered in the order in which they are run."""
from . import models  # isort: skip
from . import parts  # isort: skip
from . import data  # isort: skip
from . import gpu  # isort: skip

__all__ = ['models', 'parts', 'data', 'gpu']
