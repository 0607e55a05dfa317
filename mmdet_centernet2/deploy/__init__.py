"""Deployment of the CenterNet2 detectors through mmdeploy.

Importing the package registers all that mmdeploy needs; its deploy configs
name it::

    codebase_config = dict(
        type='mmdet', task='ObjectDetection',
        module=['mmdet_centernet2.deploy'])

The sub-package ``runtime`` runs an exported model without torch and does not
need mmdeploy.
"""
from . import compat

compat.install()

from . import (backend_model, finish, openvino_backend,  # noqa: E402
               rewriters, task)

finish.install()
openvino_backend.install()

__all__ = [
    'backend_model', 'compat', 'finish', 'openvino_backend', 'rewriters',
    'task'
]
