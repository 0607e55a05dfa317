"""The tool that measures speed: all of it once in small, and its parts."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest
import torch

from tests.paths import ROOT
from tests.reference.dense import blocked_center_targets, dense_center_targets

sys.path.append(str(ROOT / 'tools/analysis_tools'))

from speed import detectors, machine, main, report  # noqa: E402
from speed import section as speed  # noqa: E402
from speed.scenes import random_boxes  # noqa: E402
from speed.sections import parts  # noqa: E402

TOOL = ROOT / 'tools/analysis_tools/speed.py'
NAMES = 'inference fast train train_options targets heatmap_loss federated nms pipeline evaluation'
NAMES = NAMES.split()
ROWS = [
    speed.Row(
        '7 objects',
        'dense',
        speed.Timing((0.2, 0.4, 0.3)),
        numbers={'objects': 7, 'extra memory (MB)': 9.234},
    ),
    speed.Row(
        '7 objects',
        'ours',
        speed.Timing((0.002, 0.004, 0.003)),
        speed.Speedup(100.0, 99.0),
        {'objects': 7, 'extra memory (MB)': 0.21},
    ),
    speed.Row(
        '2,000 objects',
        'dense',
        speed.Timing((20.0, 21.0, 22.0)),
        numbers={'objects': 2000, 'extra memory (MB)': 2800.0},
    ),
]


def small(context):
    """No tensors: threads of other tests do not survive the fork."""
    with ExitStack() as stack:
        worker = speed.Worker(make_good, stack)
        assert worker() != os.getpid()
        rows = context.compare('x', dict(good=worker))
    sums = dict(a=lambda: sum(range(1000)), b=lambda: sum(range(10)))
    return rows + context.compare('a sum', sums)


def make_good():
    return os.getpid


def broken(context):
    with ExitStack() as stack:
        context.compare('x', dict(bad=speed.Worker(fail, stack)))


def fail():
    raise RuntimeError('no such thing')


def die(context):
    os._exit(9)


@pytest.mark.slow
def test_every_section_runs_from_any_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, TOOL, '--quick', '--rounds', '1', '--threads', '1'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / 'work_dirs/speed'
    found = json.loads((out / 'speed.json').read_text())
    assert {'CPU', 'torch', 'mmcv', 'mmdet'} <= set(found['environment'])
    page = (out / 'speed.md').read_text()
    assert list(found['sections'])[: len(NAMES)] == NAMES
    assert list(speed.SECTIONS) == [*NAMES, 'gpu']
    for name in found['sections']:
        rows = found['sections'][name]['rows']
        assert rows and f'### `{name}`' in page
        for plot in speed.SECTIONS[name].plots:
            assert (out / 'images' / plot.file).stat().st_size > 5000
    # same work: as many proposals as the config allows, detections
    work = {row['contestant']: row['numbers'] for row in found['sections']['inference']['rows']}
    assert [row['proposals'] for row in work.values()] == [detectors.FEW_PROPOSALS] * 3 + [0]
    assert all(50 <= row['detections'] <= 100 for row in work.values())
    # each switch on both detectors
    for name in ('fast', 'train_options'):
        for row in found['sections'][name]['rows']:
            if row['work'].startswith('limit, '):
                continue
            work[row['work'], row['contestant']] = row
    switches = {key[0] for key in work if isinstance(key, tuple)}
    assert len(switches) == 7
    assert all((s, c) in work for s in switches for c in (detectors.CASCADE, detectors.OURS))
    for row in found['sections']['evaluation']['rows'][1::2]:
        assert row['numbers']['largest difference (mmdet rounds to 0.001)'] < 5.1e-4


def test_what_fails_does_not_cost_the_others(tmp_path, monkeypatch):
    for name, measure in dict(small=small, broken=broken, dead=die).items():
        monkeypatch.setitem(speed.SECTIONS, name, speed.Section(name, f'{name}.', measure))
    docs = tmp_path / 'speed.md'
    docs.write_text(
        '<!-- speed: small --><!-- end of speed: small -->'
        '<!-- speed: dead -->\nkept<!-- end of speed: dead -->'
    )
    options = f'--sections small broken dead --quick --out-dir {tmp_path}/out --write-docs {docs}'
    assert main.main('', options.split()) == 1
    found = json.loads((tmp_path / 'out/speed.json').read_text())['sections']
    rows = found['small']['rows']
    assert [row['contestant'] for row in rows] == ['good', 'a', 'b']
    assert all(len(row['timing']['seconds']) >= 2 for row in rows)
    assert found['broken']['error'] == 'RuntimeError: no such thing'
    assert 'BrokenProcessPool' in found['dead']['error']
    page = (tmp_path / 'out/speed.md').read_text()
    assert '**Failed:** RuntimeError: no such thing' in page
    assert '| a sum | b |' in page and '| a sum | b |' in docs.read_text()
    assert '-->\nkept<!--' in docs.read_text()


@pytest.mark.parametrize(
    'args, said',
    [
        (['--rounds', '0'], '--rounds must be at least 1'),
        (['--write-docs', 'nowhere.md'], 'there is no file nowhere.md'),
        (['--sections', 'gpu'], 'torch sees no GPU'),
    ],
)
def test_what_cannot_be_measured_is_refused(args, said, capsys, monkeypatch):
    monkeypatch.setattr(main, 'has_gpu', lambda: False)
    with pytest.raises(SystemExit):
        main.main('', args)
    assert said in capsys.readouterr().err


def test_the_page_has_a_place_for_every_section():
    page = (ROOT / 'docs/speed.md').read_text()
    for name in ('run', *NAMES, 'gpu'):
        filled = report.fill(page, name, 'new \\1')
        assert f'<!-- speed: {name} -->\n\nnew \\1\n\n<!-- end' in filled
        assert report.fill(filled, name, 'new \\1') == filled


def test_table_and_plot():
    lines = report.rows_table(ROWS).splitlines()
    assert lines[0] == (
        '| work | what | median | quartiles | times as fast '
        '(medians; pairs) | objects | extra memory (MB) |'
    )
    assert lines[2] == ('| 7 objects | dense | 300 ms | 250 ms to 350 ms | 1 | 7 | 9.23 |')
    assert lines[3] == ('| 7 objects | ours | 3 ms | 2.5 ms to 3.5 ms | **100**; 99 | 7 | 0.21 |')
    assert lines[4].endswith('| 2,000 | 2,800 |')
    assert report.rows_table([speed.Row('a', 'b', numbers=dict(c=1.0))]) == (
        '| work | what | c |\n| --- | --- | --- |\n| a | b | 1 |'
    )
    plot = speed.Plot('growth.png', 'Growth', 'objects')
    dense, ours = report.plot_rows(plot, ROWS).axes[0].lines
    assert dense.get_xydata().tolist() == [[7, 300], [2000, 21000]]
    assert ours.get_xydata().tolist() == [[7, 3]]


@pytest.mark.parametrize(
    'seconds, text',
    [(123.4, '123 s'), (1.234, '1.23 s'), (0.0123456, '12.3 ms'), (0.000045, '45 us')],
)
def test_durations_have_a_unit_that_suits(seconds, text):
    assert report.duration(seconds) == text


def test_peak_memory_is_exact():
    def call():
        a = torch.zeros(250_000)  # 1 MB
        b = a + 1
        del a
        return (b * 2).sum()

    assert speed.extra_memory(call) == pytest.approx(2, abs=0.01)


def test_training_steps_learn_from_all_rois():
    step = detectors.TrainingStep(detectors.build(detectors.OURS, small=True), (128, 128), 7)
    counts = step.rois()
    assert counts == [detectors.FEW_PROPOSALS] * 3
    before = [p.clone() for p in step.model.roi_head.parameters()]
    step()
    after = step.model.roi_head.parameters()
    assert any((a != b).any() for a, b in zip(before, after))


@pytest.mark.parametrize('num_classes', [1, 5])
def test_dense_targets_are_equal(num_classes):
    scene = *parts._scene(speed.Context(), 40, num_classes, batch=2), num_classes
    for blocked, dense in zip(blocked_center_targets(*scene), dense_center_targets(*scene)):
        torch.testing.assert_close(blocked, dense)


@pytest.mark.parametrize(
    'losses',
    [
        lambda: parts.heatmap_losses(speed.Context(), 3),
        lambda: parts.federated_losses(speed.Context(), 60, 40, 8),
    ],
)
def test_losses_are_equal(losses):
    results = []
    for step in losses().values():
        torch.manual_seed(3)  # of the classes
        results.append((step(), *[leaf.grad for leaf in step.leaves]))
    for dense, *others in zip(*results):
        for other in others:
            torch.testing.assert_close(other, dense, rtol=1e-4, atol=1e-6)


def test_scenes_are_repeatable_and_inside():
    boxes = random_boxes(500, (80, 120))
    assert boxes.equal(random_boxes(500, (80, 120)))
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= 120).all()
    assert (boxes[:, 3] <= 80).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 8 - 1e-4).all()
    gt, layout, _ = parts._scene(speed.Context(), 7, 3, batch=2)
    assert len(gt.boxes) == 14 and layout.num_rows == 2 * 22400


def test_operations_are_counted():
    a, b = torch.ones(4, 8), torch.ones(8, 16)
    assert machine.count_operations(lambda: (a @ b) + 1) == 2 * 4 * 8 * 16
