"""One of two processes that train every config; not a test module.

    RANK=... WORLD_SIZE=2 MASTER_ADDR=... MASTER_PORT=... \
        python -m tests.test_tools.ddp_every_config FOLDER

Writes ``FOLDER/rank{r}.json``: what :func:`train` gives for each config, or
the error; and class draws.
"""

from __future__ import annotations

import gc
import json
import sys
import traceback
from datetime import timedelta
from itertools import islice
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import Runner
from torch import distributed as torch_dist

import mmdet_centernet2  # noqa: F401  registers everything
from mmdet_centernet2.cli.mmdet_tools import cpu_options
from tests.paths import CONFIGS
from tests.test_configs.recipes import shipped_configs
from tests.test_configs.test_every_config_runs import ITERATIONS, shrink

SAME_SEED = 7


def train(name: str, folder: Path) -> list[float]:
    """The loss of two iterations, then the sum of all weights.

    Everything is built as ``tools/dist_train.sh`` does it, but for mmengine's
    runner: it formats a config four times, which takes longer than the rest.
    """
    cfg = shrink(Config.fromfile(CONFIGS / name), folder)
    cfg.merge_from_dict(cpu_options(cfg))
    model = MODEL_WRAPPERS.build(
        cfg.model_wrapper_cfg, default_args=dict(module=MODELS.build(cfg.model))
    )
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    losses = [
        model.train_step(batch, optim_wrapper)['loss'].item()
        for batch in islice(loader, ITERATIONS)
    ]
    return losses + [sum(p.double().sum().item() for p in model.parameters())]


def draw_classes() -> list[list[int]]:
    """Classes that a federated loss draws in two calls."""
    torch.manual_seed(SAME_SEED)
    loss = MODELS.build(dict(type='FederatedLoss'))
    return [loss.sample_classes(torch.tensor([1203]), 1203).tolist() for _ in range(2)]


def main() -> None:
    torch.set_num_threads(1)
    register_all_modules(init_default_scope=True)
    torch_dist.init_process_group('gloo', timeout=timedelta(seconds=120))
    rank = torch_dist.get_rank()
    folder = Path(sys.argv[1])
    gc.freeze()  # a collection looks at all libraries otherwise
    found = {}
    for number, name in enumerate(sorted(shipped_configs())):
        try:
            found[name] = train(name, folder / f'{number}_rank{rank}')
        except RuntimeError:
            found[name] = traceback.format_exc()[-1500:]
        gc.collect()
    found['draws'] = [draw_classes(), draw_classes()]
    (folder / f'rank{rank}.json').write_text(json.dumps(found))


if __name__ == '__main__':
    main()
