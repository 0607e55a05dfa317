# Up to 4 images of any size up to 1344x1344 pixels after resizing.
backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, max_workspace_size=1 << 32),
    model_inputs=[
        dict(
            input_shapes=dict(
                input=dict(
                    min_shape=[1, 3, 320, 320],
                    opt_shape=[1, 3, 800, 1344],
                    max_shape=[4, 3, 1344, 1344],
                ),
                image_sizes=dict(min_shape=[1, 2], opt_shape=[1, 2], max_shape=[4, 2]),
            )
        )
    ],
)
