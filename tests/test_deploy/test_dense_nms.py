"""The NMS of constant shape against mmcv's, and as an exported graph."""

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmcv.ops import nms

from mmdet_centernet2.deploy.rewriters.tensorrt import STEPS, dense_nms, suppression

pytestmark = pytest.mark.export


def crowd(num: int, objects: int, spread: float, seed: int) -> torch.Tensor:
    """Boxes around a few objects, as a detector proposes them, (num, 4)."""
    random = torch.Generator().manual_seed(seed)
    centers = torch.rand(objects, 2, generator=random) * 800
    sizes = torch.rand(objects, 2, generator=random) * 200 + 12
    chosen = torch.randint(objects, (num,), generator=random)
    noise = torch.randn(num, 4, generator=random) * spread
    centers = centers[chosen] + noise[:, :2] * sizes[chosen]
    sizes = sizes[chosen] * noise[:, 2:].exp()
    return torch.cat([centers - sizes / 2, centers + sizes / 2], dim=1)


def distinct_scores(*shape: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    count = int(np.prod(shape))
    order = torch.randperm(count, generator=random)
    return ((order + 0.5) / count).view(shape)


def greedy(boxes, scores, iou_threshold, score_threshold=0.0):
    """mmcv's NMS of one class as a mask."""
    keep = torch.zeros(len(scores), dtype=torch.bool)
    valid = (scores > score_threshold).nonzero().squeeze(1)
    if len(valid):
        keep[valid[nms(boxes[valid], scores[valid], iou_threshold)[1]]] = True
    return keep


def decisions(boxes, scores, iou_threshold) -> int:
    """Length of the longest chain: steps until nothing changes any more."""
    suppress = suppression(boxes, scores, iou_threshold).float()
    keep, steps = torch.ones_like(scores).unsqueeze(-2), 0
    while True:
        after = (keep @ suppress < 0.5).float()
        if torch.equal(after, keep):
            return steps
        keep, steps = after, steps + 1


@pytest.mark.parametrize('iou_threshold', [0.5, 0.9])
@pytest.mark.parametrize('spread', [0.02, 0.1, 0.3])
@pytest.mark.parametrize('objects', [2, 20])
def test_keeps_what_greedy_nms_keeps(objects, spread, iou_threshold):
    boxes = torch.stack([crowd(500, objects, spread, seed) for seed in range(2)])
    scores = distinct_scores(2, 1, 500)
    keep = dense_nms(boxes, scores, iou_threshold)
    for image in range(2):
        expected = greedy(boxes[image], scores[image, 0], iou_threshold)
        assert 0 < expected.sum() < 500 or spread == 0.3
        assert torch.equal(keep[image, 0], expected)
    assert decisions(boxes, scores, iou_threshold) <= STEPS / 2


def test_classes_do_not_compete():
    """One set of boxes, other scores in each class, few above the bar."""
    boxes, scores = crowd(100, 5, 0.1, 0)[None], distinct_scores(1, 7, 100)
    keep = dense_nms(boxes, scores, 0.5, score_threshold=0.3)
    for label in range(7):
        assert torch.equal(keep[0, label], greedy(boxes[0], scores[0, label], 0.5, 0.3))


def test_padding_neither_stays_nor_suppresses():
    boxes = torch.tensor(
        [[[0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]
    )
    scores = torch.tensor([[[-1.0, 0.5, -1.0, 0.0]]])
    keep = dense_nms(boxes, scores, 0.5)
    assert keep.tolist() == [[[False, True, False, False]]]


def test_of_equal_scores_the_first_stays():
    boxes = torch.tensor([0.0, 0.0, 9.0, 9.0]).expand(1, 5, 4)
    keep = dense_nms(boxes, torch.full((1, 2, 5), 0.5), 0.5)
    assert keep[0].tolist() == [[True, False, False, False, False]] * 2


def test_a_chain_needs_as_many_steps_as_it_has_links():
    """Each box overlaps the next: every other one stays."""
    left = torch.arange(12.0) * 4
    boxes = torch.stack([left, left * 0, left + 10, left * 0 + 10], 1)[None]
    scores = (1 - torch.arange(12.0) / 100)[None, None]
    every_other = [True, False] * 6
    assert dense_nms(boxes, scores, 0.4, steps=12)[0, 0].tolist() == every_other
    assert dense_nms(boxes, scores, 0.4, steps=4)[0, 0].tolist() != every_other


class AsModule(torch.nn.Module):
    def forward(self, boxes, scores):
        return dense_nms(boxes, scores, 0.7, 0.05)


def test_exported_graph_has_constant_shapes_and_the_same_answer():
    boxes = torch.stack([crowd(60, 4, 0.1, seed) for seed in range(2)])
    scores = distinct_scores(2, 3, 60)
    file = io.BytesIO()
    torch.onnx.export(
        AsModule(),
        (boxes, scores),
        file,
        opset_version=16,
        input_names=['boxes', 'scores'],
        output_names=['keep'],
        dynamo=False,
    )
    model = onnx.load_from_string(file.getvalue())
    used = {node.op_type for node in model.graph.node}
    assert not used & {'NonMaxSuppression', 'NonZero', 'Loop', 'If'}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    assert len(inferred.graph.value_info) >= len(model.graph.node) - 1
    for value in inferred.graph.value_info:
        assert all(side.HasField('dim_value') for side in value.type.tensor_type.shape.dim)
    session = onnxruntime.InferenceSession(file.getvalue())
    boxes, scores = crowd(60, 2, 0.1, 7).expand(2, -1, -1), scores.flip(0)
    (keep,) = session.run(None, dict(boxes=boxes.numpy(), scores=scores.numpy()))
    assert np.array_equal(keep, dense_nms(boxes, scores, 0.7, 0.05).numpy())
