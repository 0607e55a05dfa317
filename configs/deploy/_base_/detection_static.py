# How a graph is written. Opset 19 is the first with deformable convolutions.
ir_config = dict(
    type='onnx',
    export_params=True,
    keep_initializers_as_inputs=False,
    opset_version=19,
    save_file='end2end.onnx',
    input_names=['input', 'image_sizes'],
    output_names=['dets', 'labels'],
    input_shape=None,
    optimize=False,
)
codebase_config = dict(
    type='mmdet',
    task='ObjectDetection',
    module=['mmdet_centernet2.deploy'],
    model_type='centernet2_end2end',
    # Height and width of each image without padding, to which boxes are
    # clipped. False, and input_names=['input'], for what can feed one tensor.
    image_size_input=True,
)
# Replaces parts of mmdeploy, in its own tools too: see deploy.enable().
custom_imports = dict(imports=['mmdet_centernet2.deploy.enabled'], allow_failed_imports=False)
