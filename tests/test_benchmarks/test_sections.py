"""Sections, in small, and that they compare like with like."""
import json
import os

import pytest
import torch

from mmdet_centernet2.benchmarks import main as tool
from mmdet_centernet2.benchmarks.detectors import (CONFIGS, FASTER, OURS,
                                                   UPDATE, build, count_work,
                                                   load_config,
                                                   ready_to_predict)
from mmdet_centernet2.benchmarks.memory import extra_memory
from mmdet_centernet2.benchmarks.plain_decode import plain_decode
from mmdet_centernet2.benchmarks.runner import run_section
from mmdet_centernet2.benchmarks.scenes import (STRIDES, layout_of, objects,
                                                random_boxes)
from mmdet_centernet2.benchmarks.section import Context, Row, Section
from mmdet_centernet2.benchmarks.sections import SECTIONS
from mmdet_centernet2.benchmarks.sections.decode import random_maps
from mmdet_centernet2.benchmarks.sections.federated import FederatedStep
from mmdet_centernet2.benchmarks.sections.heatmap_loss import HeatLoss
from mmdet_centernet2.benchmarks.traffic import demand, kind_of, sum_kinds
from mmdet_centernet2.benchmarks.training import TrainingStep, rois_per_stage
from mmdet_centernet2.benchmarks.workers import (Worker, WorkerError,
                                                 drop_failures)
from mmdet_centernet2.models.task_modules.center_decoder import decode


def test_registry():
    assert list(SECTIONS) == [
        'inference', 'fast', 'train', 'train_options', 'targets',
        'heatmap_loss', 'federated', 'decode', 'pipeline', 'evaluation', 'gpu'
    ]
    assert [name for name, s in SECTIONS.items() if s.gpu] == ['gpu']
    plots = [p.file for s in SECTIONS.values() for p in s.plots]
    assert len(set(plots)) == len(plots)


def test_without_a_gpu_its_section_is_left_out_unless_asked_for():
    assert 'gpu' not in [s.name for s in tool.choose(None, has_gpu=False)]
    assert 'gpu' in [s.name for s in tool.choose(None, has_gpu=True)]
    assert [s.name for s in tool.choose(['gpu', 'train'], False)] == [
        'train', 'gpu'
    ]


def arguments(**changes):
    from argparse import Namespace
    return Namespace(**dict(
        dict(sections=['small', 'broken'], quick=True, rounds=2,
             write_docs=None), **changes))


def broken(context):
    raise RuntimeError('no such thing')


def killed(context):
    os._exit(9)


def small(context):
    """No tensors: threads of other tests do not survive the fork."""
    context.say('works')
    return context.compare('a sum', dict(
        a=lambda: sum(range(1000)), b=lambda: sum(range(10))),
        numbers=dict(size=3))


def test_a_run_writes_everything_and_survives_a_broken_section(
        tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, 'SECTIONS', dict(
        small=Section('small', 'Small.', small),
        broken=Section('broken', 'Broken.', broken)))
    docs = tmp_path / 'speed.md'
    docs.write_text('<!-- speed: small --><!-- end of speed: small -->')
    status = tool.measure(
        arguments(out_dir=tmp_path / 'out', write_docs=docs), 'the command')
    assert status == 1
    content = json.loads((tmp_path / 'out/speed.json').read_text())
    assert content['command'] == 'the command'
    assert {'CPU', 'torch', 'mmcv', 'mmdet', 'GPU'} <= set(
        content['environment'])
    rows = content['sections']['small']['rows']
    assert [row['contestant'] for row in rows] == ['a', 'b']
    assert all(len(row['seconds']) >= 2 for row in rows)
    assert content['sections']['broken']['error'] == (
        'RuntimeError: no such thing')
    assert '| a sum | b |' in docs.read_text()
    assert '| a sum | b |' in (tmp_path / 'out/speed.md').read_text()
    assert 'section gpu' not in capsys.readouterr().out


def test_a_section_of_the_gpu_is_not_run_without_one():
    result = tool._one(SECTIONS['gpu'], True, 1, has_gpu=False, say=print)
    assert 'torch sees none' in result.error and not result.rows


def test_a_killed_section_is_told():
    result = run_section(Section('killed', '', killed), Context())
    assert result.error == 'its process ended with exit status 9'


def test_progress_comes_out_of_the_child():
    said = []
    result = run_section(
        Section('small', '', small), Context(True, 2, say=said.append))
    assert not result.error
    assert said[0] == 'works' and said[1] == 'a sum: a'
    assert isinstance(result.rows[0], Row)


def test_peak_memory_is_exact():
    def call():
        a = torch.zeros(250_000)  # 1 MB
        b = a + 1
        del a
        return (b * 2).sum()

    assert extra_memory(call) == pytest.approx(2, abs=0.01)


def test_workers_answer_and_pass_on_errors():
    worker = Worker(lambda: os.getpid)
    assert worker() == worker() != os.getpid()
    worker.stop()
    with pytest.raises(WorkerError, match='no such thing'):
        Worker(lambda: lambda: broken(None))()
    with pytest.raises(WorkerError, match='exit status 9'):
        Worker(lambda: lambda: killed(None))()


def test_a_contestant_that_fails_does_not_cost_the_others():
    workers = dict(good=Worker(lambda: os.getpid),
                   bad=Worker(lambda: lambda: broken(None)))
    assert drop_failures(workers, print) == dict(
        bad='RuntimeError: no such thing')
    assert list(workers) == ['good']
    workers['good'].stop()


@pytest.mark.parametrize('name, proposals', [(OURS, 256), (FASTER, 1000),
                                             (UPDATE, 0)])
def test_detectors_have_the_work_of_trained_ones(name, proposals):
    model, images, samples = ready_to_predict(name, (192, 256), small=True)
    work = count_work(model, images, samples)
    assert work.proposals == proposals
    assert 50 <= work.detections <= 100


def test_peers_are_found_in_the_installed_mmdet():
    for name in CONFIGS:
        assert load_config(name).model.backbone.depth == 50


def test_training_steps_learn_from_all_rois():
    step = TrainingStep(build(OURS, small=True), (128, 128), 7)
    counts = rois_per_stage(step)
    assert len(counts) == 3 and counts[0] > 100
    step.release()
    before = [p.clone() for p in step.model.roi_head.parameters()]
    assert step().isfinite()
    after = step.model.roi_head.parameters()
    assert any((a != b).any() for a, b in zip(before, after))


@pytest.mark.parametrize('num_classes', [1, 5])
def test_plain_decoding_finds_the_same(num_classes):
    args = (*random_maps(num_classes, 2, 'cpu'), STRIDES, 1e-4, 100, True)
    for ours, plain in zip(decode(*args), plain_decode(*args)):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-4)


def test_both_heat_map_losses_are_equal():
    losses = [HeatLoss(3, dense, 'cpu')() for dense in (True, False)]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=0)


def test_both_federated_losses_are_equal():
    results = []
    for chosen_only in (True, False):
        step = FederatedStep(60, chosen_only, 'cpu')
        torch.manual_seed(3)
        step.classifier.reset_parameters()
        results.append((step(), step.features.grad,
                        step.classifier.weight.grad))
    for ours, plain in zip(*results):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-7)


def test_scenes_are_repeatable_and_inside():
    boxes = random_boxes(500, (80, 120))
    assert boxes.equal(random_boxes(500, (80, 120)))
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 120).all()
    assert (boxes[:, 3] <= 80).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 8 - 1e-4).all()
    assert len(objects(7, (80, 120), 3, batch=2).boxes) == 14
    assert layout_of((800, 1344)).num_rows == 22400


def test_demand_counts_operations_and_bytes():
    a, b = torch.ones(4, 8), torch.ones(8, 16)
    need = demand(lambda: (a @ b).view(-1) + 1)
    assert need.operations == 2 * 4 * 8 * 16
    assert need.num_bytes == 4 * ((32 + 128 + 64) + (64 + 64))


def test_kernels_are_sorted_by_kind():
    assert kind_of('void cutlass::Kernel<xmma_fprop>') == (
        'convolutions and matrix products')
    assert kind_of('void roi_align_forward_cuda_kernel') == 'RoIAlign'
    assert kind_of('something') == 'others'
    assert sum_kinds([('Memcpy HtoD', 1.), ('nms_cuda', 5.),
                      ('Memset', 2.)]) == dict(NMS=5., copies=3.)
