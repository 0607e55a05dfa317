"""mmdeploy rewriters of this package's modules."""
from . import deform_conv, dense_heads, detectors, roi_heads  # noqa: F401
