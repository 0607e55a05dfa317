"""mmdeploy rewriters of this package's modules."""
from . import (deform_conv, dense_heads, detectors,  # noqa: F401
               roi_heads, tensorrt)
