"""CenterNet2 (probabilistic two-stage detection) for MMDetection 3.x.

Importing the package checks that its companions fit, registers every model,
data set, metric and hook in mmdet's registries, and lets torch read mmengine's
checkpoints with ``weights_only=True``. In a config::

    custom_imports = dict(imports=['mmdet_centernet2'])
"""

import warnings

# Of mmcv and mmdet, when they are imported beside torch 2.14 or newer.
warnings.filterwarnings('ignore', r'`torch\.jit\.\w+` is deprecated')
# Of onedl's mmdet; our metrics do without.
warnings.filterwarnings('ignore', 'faster_coco_eval is not installed')

from .utils.versions import check_versions  # noqa: E402
from .version import __version__, version_info  # noqa: E402

check_versions()  # first: later imports fail obscurely

from .checkpoint.safe_globals import allow_mmengine_checkpoints  # noqa: E402

allow_mmengine_checkpoints()

from . import datasets, engine, evaluation, models, registry  # noqa: E402
from .checkpoint import zoo  # noqa: E402, F401  registers centernet2://

__all__ = ['__version__', 'version_info', 'datasets', 'engine', 'evaluation', 'models', 'registry']
