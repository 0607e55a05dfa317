"""A small ONNX model with the ends of an exported detector.

Its detections depend on the input in ways that a test can foretell, and it
has a backbone and a neck of a few convolutions, named as in an exported one.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = ('light', 'dark')
INFO = dict(
    schema=1,
    package='0.0.0',
    classes=list(CLASSES),
    palette=[[255, 0, 0], [0, 255, 0]],
    resize=dict(scale=[96, 64], keep_ratio=True, short_side=False),
    mean=[120.0, 110.0, 100.0],
    std=[60.0, 50.0, 40.0],
    bgr_to_rgb=True,
    pad_divisor=32,
    pad_value=0,
    task='bbox',
    image_size_input=True,
)
#: In pixels of the network's input; the second is empty once clipped.
FIXED_BOX, OUTSIDE_BOX = (8.0, 16.0, 40.0, 48.0), (-9.0, -9.0, -2.0, -2.0)


def write_model(
    path: Path,
    info: dict | None = INFO,
    shape: tuple = ('batch', 3, 'height', 'width'),
    masks: bool = False,
) -> Path:
    """Write the model.

    It gives four entries for each image: the whole unpadded image as a
    ``light`` object with score 0.9; :data:`FIXED_BOX` as a ``dark`` one, whose
    score is the share of bright pixels, weighted by the neck; one outside the
    image; and one that only fills up. With
    ``masks``, the left half of each box is its mask.
    """
    nodes, weights = _body()
    nodes += _detections()
    outputs = [
        ('dets', TensorProto.FLOAT, (shape[0], 4, 5)),
        ('labels', TensorProto.INT64, (shape[0], 4)),
    ]
    if masks:
        nodes.append(helper.make_node('Expand', ['half', 'mask_shape'], ['masks'], name='/masks'))
        outputs.append(('masks', TensorProto.FLOAT, (shape[0], 4, 28, 28)))
    graph = helper.make_graph(
        nodes,
        'stand-in',
        [
            _value('input', TensorProto.FLOAT, shape),
            _value('image_sizes', TensorProto.FLOAT, (shape[0], 2)),
        ],
        [_value(*output) for output in outputs],
        [
            numpy_helper.from_array(array, name)
            for name, array in {**weights, **_constants()}.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 16)], ir_version=8)
    if info is not None:
        helper.set_model_props(model, dict(mmdet_centernet2=json.dumps(info)))
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _value(name: str, kind: int, shape: tuple):
    return helper.make_tensor_value_info(name, kind, shape)


def _body() -> tuple[list, dict]:
    """Two convolutions of the backbone, one of the neck, one of the head."""
    random = np.random.RandomState(0)
    sizes = {
        '/backbone/conv1/Conv': (8, 3),
        '/backbone/conv2/Conv': (8, 8),
        '/neck/conv/Conv': (8, 8),
        '/rpn_head/conv/Conv': (4, 8),
    }
    nodes, weights, data = [], {}, 'input'
    for name, (outputs, inputs) in sizes.items():
        weight = random.rand(outputs, inputs, 3, 3).astype(np.float32)
        weights[f'{name}.weight'] = weight / weight.sum((1, 2, 3))[:, None, None, None]
        nodes.append(
            helper.make_node(
                'Conv',
                [data, f'{name}.weight'],
                [f'{name}_out'],
                name=name,
                kernel_shape=[3, 3],
                pads=[1, 1, 1, 1],
            )
        )
        relu = name.replace('Conv', 'Relu')
        nodes.append(helper.make_node('Relu', [f'{name}_out'], [f'{relu}_out'], name=relu))
        data = f'{relu}_out'
    nodes.append(helper.make_node('Identity', [data], ['features'], name='/rpn_head/Identity'))
    return nodes, weights


def _detections() -> list:
    """From features to detections; nothing of it is a backbone's."""
    make = helper.make_node
    steps = [
        # the score: mean of the features, squashed
        ('ReduceMean', ['features'], 'mean', dict(axes=[1, 2, 3], keepdims=1)),
        ('Sigmoid', ['mean'], 'level', {}),
        ('Reshape', ['level', 'to_score'], 'score', {}),
        # (height, width) to (width, height) of each image
        ('Gather', ['image_sizes', 'turned'], 'corner', dict(axis=1)),
        ('Unsqueeze', ['corner', 'one'], 'corners', {}),
        ('Shape', ['corners'], 'corners_shape', {}),
        ('Slice', ['corners_shape', 'zero', 'one'], 'batch', {}),
        ('Concat', ['batch', 'ends_shape'], 'batch_ends', dict(axis=0)),
        ('Expand', ['whole_start', 'batch_ends'], 'starts', {}),
        ('Concat', ['batch', 'ones'], 'batch_one', dict(axis=0)),
        ('Expand', ['whole_score', 'batch_one'], 'whole_scores', {}),
        ('Concat', ['starts', 'corners', 'whole_scores'], 'whole', dict(axis=2)),
        ('Concat', ['batch', 'box_shape'], 'batch_box', dict(axis=0)),
        ('Expand', ['fixed_box', 'batch_box'], 'fixed', {}),
        ('Concat', ['fixed', 'score'], 'fixed_scored', dict(axis=2)),
        ('Concat', ['batch', 'rest_shape'], 'batch_rest', dict(axis=0)),
        ('Expand', ['rest', 'batch_rest'], 'rests', {}),
        ('Concat', ['whole', 'fixed_scored', 'rests'], 'dets', dict(axis=1)),
        ('Concat', ['batch', 'labels_shape'], 'batch_labels', dict(axis=0)),
        ('Expand', ['all_labels', 'batch_labels'], 'labels', {}),
        ('Concat', ['batch', 'masks_shape'], 'mask_shape', dict(axis=0)),
    ]
    return [
        make(op, inputs, [output], name=f'/head/{output}', **attributes)
        for op, inputs, output, attributes in steps
    ]


def _constants() -> dict:
    half = np.zeros((1, 1, 28, 28), np.float32)
    half[..., :14] = 1
    rest = np.array([[[*OUTSIDE_BOX, 0.5], [0, 0, 0, 0, 0]]], np.float32)
    lengths = dict(
        turned=[1, 0],
        one=[1],
        zero=[0],
        ends_shape=[1, 2],
        ones=[1, 1],
        box_shape=[1, 4],
        rest_shape=[2, 5],
        labels_shape=[4],
        masks_shape=[4, 28, 28],
        to_score=[-1, 1, 1],
    )
    return {
        **{name: np.array(value, np.int64) for name, value in lengths.items()},
        'whole_start': np.zeros((1, 1, 2), np.float32),
        'whole_score': np.full((1, 1, 1), 0.9, np.float32),
        'fixed_box': np.array([[FIXED_BOX]], np.float32),
        'rest': rest,
        'all_labels': np.array([[0, 1, 0, -1]], np.int64),
        'half': half,
    }
