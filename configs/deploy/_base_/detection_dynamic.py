# Any batch size and any height and width.
_base_ = './detection_static.py'
ir_config = dict(
    dynamic_axes=dict(
        input={0: 'batch', 2: 'height', 3: 'width'},
        image_sizes={0: 'batch'},
        dets={0: 'batch'},
        labels={0: 'batch'},
    )
)
