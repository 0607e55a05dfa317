"""Every config builds, trains and is tested on data of its own kind.

Models have fewer layers and channels, but every kind of part; images are small,
and nothing is downloaded. mmdet's analyze_logs.py reads the log of each.
"""

import gc
import math
import runpy
import sys
from pathlib import Path

import mmdet
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner

from tests.paths import CONFIGS
from tests.test_configs.recipes import shipped_configs
from tests.test_configs.tiny_data import datasets_of, relocate, write_dataset

pytestmark = pytest.mark.slow

NAMES = sorted(shipped_configs())
ITERATIONS = 2
ANALYZE_LOGS = Path(mmdet.__file__).parent / '.mim/tools/analysis_tools/analyze_logs.py'
#: onedl's tool asks matplotlib for a style of seaborn by default.
STYLE = () if 'seaborn' in ANALYZE_LOGS.read_text() else ('--style', 'default')
#: Shorter side, longest side and window of the small images, in pixels.
SHORT_EDGE, LONG_EDGE, WINDOW = 64, 96, 96
#: Detectors that know nothing yet must still find something to evaluate.
SCORE_THR = 1e-4

CASCADE_LOSSES = {
    f's{stage}.{loss}' for stage in range(3) for loss in ('loss_cls', 'loss_bbox', 'acc')
}
PROPOSAL_LOSSES = {f'rpn_loss_centernet_{loss}' for loss in ('loc', 'agn_pos', 'agn_neg')}
ONE_STAGE_LOSSES = {f'loss_centernet_{loss}' for loss in ('loc', 'pos', 'neg')}


class Watch(Hook):
    """Remembers what each iteration logs."""

    def __init__(self):
        self.logs = []

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.logs.append({k: float(v) for k, v in outputs.items()})


def shrink(cfg: Config, folder: Path) -> Config:
    """The config on a small data set of its own kind, on one CPU, all below ``folder``."""
    cfg = Config(relocate(cfg._cfg_dict.to_dict(), folder))
    assert cfg.test_dataloader == cfg.val_dataloader
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False, pin_memory=False)
        for dataset in datasets_of(loader.dataset):
            write_dataset(dataset)
            for transform in dataset.pipeline:
                _shrink_transform(transform)
    cfg.train_dataloader.batch_size = 1
    cfg.train_cfg.update(max_iters=ITERATIONS)
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.model.backbone.init_cfg = cfg.load_from = None
    shrink_model(cfg.model)
    cfg.model.test_cfg.get('rcnn', cfg.model.test_cfg).score_thr = SCORE_THR
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)
    cfg.default_hooks.logger.update(interval=1)
    cfg.work_dir = str(folder / 'work_dir')
    # one of that name would be shared by all runs of a process
    cfg.visualizer.update(name=str(folder), vis_backends=[dict(type='LocalVisBackend')])
    return cfg


def shrink_model(model: ConfigDict) -> None:
    """Fewer layers and channels; every kind of part is there."""
    if model.backbone.get('depth') in (50, 101):
        model.backbone.update(depth=50, base_channels=16)
        model.neck.in_channels = [128, 256, 512]
    if 'BiFPN' in model.neck.type:
        model.neck.num_cells = 2
    if 'roi_head' in model:
        model.roi_head.bbox_head.fc_out_channels = 32
        if 'mask_head' in model.roi_head:
            model.roi_head.mask_head.update(num_convs=1, conv_out_channels=16)


def _shrink_transform(transform: dict) -> None:
    kind = transform['type']
    if kind == 'RandomChoiceResize':
        transform.update(scales=[SHORT_EDGE], max_size=LONG_EDGE)
    elif kind == 'Resize':
        transform.update(scale=(LONG_EDGE, SHORT_EDGE))
    elif kind == 'EfficientDetResizeCrop':
        # large enough that no draw leaves an image without objects
        transform.update(size=WINDOW, scale_range=(0.9, 1.1))


def expected_losses(cfg: Config) -> set:
    """Names of everything that a model of the config logs."""
    if 'roi_head' not in cfg.model:
        return ONE_STAGE_LOSSES | {'loss'}
    losses = PROPOSAL_LOSSES | {'loss'}
    if cfg.model.roi_head.type == 'CenterNet2RoIHead':
        losses |= {'loss_cls', 'loss_bbox', 'acc'}
    else:
        losses |= CASCADE_LOSSES
    if 'mask_head' in cfg.model.roi_head:
        losses.add('s0.loss_mask')
    return losses


def expected_metrics(cfg: Config) -> set:
    """Names of what the config's evaluator finds."""
    if cfg.test_evaluator.type == 'CenterNet2LVISMetric':
        return {'lvis/bbox_AP', 'lvis/bbox_APr'}
    metric = cfg.test_evaluator.metric
    kinds = [metric] if isinstance(metric, str) else metric
    return {f'coco/{kind}_mAP' for kind in kinds}


def analyze_logs(monkeypatch, *arguments: object) -> None:
    """Run mmdet's tool with a command line."""
    monkeypatch.setenv('MPLBACKEND', 'Agg')
    monkeypatch.setattr(sys, 'argv', [str(ANALYZE_LOGS), *map(str, arguments)])
    runpy.run_path(str(ANALYZE_LOGS), run_name='__main__')


@pytest.fixture(autouse=True)
def _no_litter():
    yield
    gc.collect()


@pytest.mark.parametrize('name', NAMES)
def test_config_trains_and_tests(name, tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    cfg = shrink(Config.fromfile(CONFIGS / name), tmp_path)
    runner = Runner.from_cfg(cfg)
    watch = Watch()
    runner.register_hook(watch)
    before = {
        n: p.detach().abs().sum().item()
        for n, p in runner.model.named_parameters()
        if 'conv_reg.' in n
    }
    runner.train()
    assert len(watch.logs) == ITERATIONS
    for log in watch.logs:
        assert set(log) == expected_losses(cfg)
        assert all(math.isfinite(value) for value in log.values())
        assert log['loss'] == pytest.approx(
            sum(v for k, v in log.items() if 'loss_' in k), rel=1e-5
        )
    parameters = dict(runner.model.named_parameters())
    assert before
    assert any(parameters[n].detach().abs().sum().item() != value for n, value in before.items())

    (log,) = tmp_path.glob(f'work_dir/*/vis_data/{runner.timestamp}.json')
    losses = sorted(set(watch.logs[0]) - {'loss'})
    plot = tmp_path / 'losses.png'
    keys = ('--keys', 'loss', *losses)
    analyze_logs(monkeypatch, 'plot_curve', log, *keys, *STYLE, '--out', plot)
    assert plot.stat().st_size > 5000
    capsys.readouterr()
    analyze_logs(monkeypatch, 'cal_train_time', log)
    assert 'average iter time: nan' not in capsys.readouterr().out

    metrics = runner.test()
    wanted = expected_metrics(cfg)
    assert wanted <= set(metrics)
    assert all(0 <= metrics[key] <= 1 for key in wanted), metrics
