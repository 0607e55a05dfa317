# TensorRT, one image of at most 1344x800 pixels after resizing.
# Smaller ones are padded. Not run so far: the graph obeys the rules of
# TensorRT 10.1 and, without deformable convolutions and with
# ir_config.opset_version=17, of 8.6.
_base_ = ['./_base_/detection_static.py', './_base_/tensorrt_static.py']
ir_config = dict(input_shape=(1344, 800))  # width, height
