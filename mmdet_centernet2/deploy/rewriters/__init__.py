"""mmdeploy rewriters of this package's modules."""

from . import dense_heads, roi_heads, tensorrt  # noqa: F401
