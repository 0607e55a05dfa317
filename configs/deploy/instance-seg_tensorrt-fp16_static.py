# TensorRT with backbone and neck in float16, with masks. Not run so far, see
# instance-seg_tensorrt_static.py. The types stand in the graph: build it with
# strong typing (trtexec --stronglyTyped) where there is such a thing. Older
# releases, and mmdeploy's own engine builder, need FP16 allowed, and may then
# use it for boxes, too, whose areas overflow: compare the detections.
_base_ = './instance-seg_tensorrt_static.py'
codebase_config = dict(half_features=True)
backend_config = dict(common_config=dict(fp16_mode=True))
