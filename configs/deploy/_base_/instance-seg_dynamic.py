# With masks: probabilities inside each box, pasted after the graph.
_base_ = './detection_dynamic.py'
ir_config = dict(output_names=['dets', 'labels', 'masks'], dynamic_axes=dict(masks={0: 'batch'}))
codebase_config = dict(post_processing=dict(export_postprocess_mask=False))
