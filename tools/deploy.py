"""Export a detector: mmdeploy's tools/deploy.py with our models and checks."""

import sys

try:
    import mmdeploy  # noqa: F401
except ImportError as error:
    sys.exit(
        f'deploy.py: error: {error}. Deployment needs mmdeploy, onnx and '
        'onnxruntime: docs/install.md says how to install them.'
    )

import mmdet_centernet2  # noqa: F401,E402  registers the models
from mmdet_centernet2.cli.deploy import main  # noqa: E402

if __name__ == '__main__':
    main()
