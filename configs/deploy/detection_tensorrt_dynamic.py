# TensorRT, up to 4 images of any size up to 1344x1344 pixels after
# resizing. Not run so far, see detection_tensorrt_static.py.
_base_ = ['./_base_/detection_dynamic.py', './_base_/tensorrt_dynamic.py']
