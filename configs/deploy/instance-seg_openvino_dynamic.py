# OpenVINO, images of any size, with masks.
_base_ = './_base_/instance-seg_dynamic.py'
backend_config = dict(type='openvino')
