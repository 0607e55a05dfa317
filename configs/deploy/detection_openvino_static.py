# OpenVINO, one image of at most 1344x800 pixels after resizing; smaller ones
# are padded.
_base_ = './_base_/detection_static.py'
ir_config = dict(input_shape=(1344, 800))  # width, height
backend_config = dict(type='openvino')
