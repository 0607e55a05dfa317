# TensorRT, up to 4 images of any size up to 1344x1344 pixels after
# resizing, with masks. Not run so far, see instance-seg_tensorrt_static.py.
_base_ = ['./_base_/instance-seg_dynamic.py', './_base_/tensorrt_dynamic.py']
