"""Export a detector: mmdeploy's tools/deploy.py with our models and checks."""

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.cli.deploy import main

if __name__ == '__main__':
    main()
