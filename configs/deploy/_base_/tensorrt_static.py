# One image of at most 1344x800 pixels after resizing; smaller ones are padded.
backend_config = dict(
    type='tensorrt',
    common_config=dict(fp16_mode=False, max_workspace_size=1 << 32),
    model_inputs=[
        dict(
            input_shapes=dict(
                input=dict(
                    min_shape=[1, 3, 800, 1344],
                    opt_shape=[1, 3, 800, 1344],
                    max_shape=[1, 3, 800, 1344],
                ),
                image_sizes=dict(min_shape=[1, 2], opt_shape=[1, 2], max_shape=[1, 2]),
            )
        )
    ],
)
