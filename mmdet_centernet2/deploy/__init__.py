"""Deployment of CenterNet2 detectors through mmdeploy.

Importing this package registers rewriters of this package's own classes.
:func:`enable` also switches on what replaces parts of mmdeploy; the deploy
configs in ``configs/deploy`` and ``tools/deploy.py`` call it.

:mod:`mmdet_centernet2.runtime` runs an exported model without torch and mmdeploy.
"""

from . import backend_model, finish, rewriters  # noqa: F401
from .workarounds import enable

__all__ = ['enable']
