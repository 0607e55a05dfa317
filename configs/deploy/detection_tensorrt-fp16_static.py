# TensorRT with backbone and neck in float16. Not run so far, see
# detection_tensorrt_static.py. The types stand in the graph: build it with
# strong typing (trtexec --stronglyTyped) where there is such a thing. Older
# releases, and mmdeploy's own engine builder, need FP16 allowed, and may then
# use it for boxes, too, whose areas overflow: compare the detections.
_base_ = './detection_tensorrt_static.py'
codebase_config = dict(half_features=True)
backend_config = dict(common_config=dict(fp16_mode=True))
