# OpenVINO, images of any size.
_base_ = './_base_/detection_dynamic.py'
backend_config = dict(type='openvino')
