# TensorRT, one image of at most 1344x800 pixels after resizing, with masks.
# Smaller ones are padded. Not run so far: the graph obeys the rules of
# TensorRT 10.1 and, without deformable convolutions and with
# ir_config.opset_version=17, of 8.6.
_base_ = './_base_/instance-seg_static.py'
ir_config = dict(input_shape=(1344, 800))  # width, height
backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, max_workspace_size=1 << 32),
    model_inputs=[
        dict(
            input_shapes=dict(
                input=dict(
                    min_shape=[1, 3, 800, 1344],
                    opt_shape=[1, 3, 800, 1344],
                    max_shape=[1, 3, 800, 1344]),
                image_sizes=dict(
                    min_shape=[1, 2], opt_shape=[1, 2], max_shape=[1, 2])))
    ])
