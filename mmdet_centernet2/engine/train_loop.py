"""Resume a training without loading the images it has seen already."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, count, islice, repeat

import numpy as np
import torch
from mmdet.registry import DATA_SAMPLERS, LOOPS
from mmengine.dist import get_rank
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.nn import Module
from torch.utils.data import BatchSampler, DataLoader, Sampler, get_worker_info


def get_random_state() -> dict:
    """The state of all random generators of this process, as ``weights_only`` can load it."""
    name, keys, *numbers = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=[name, torch.from_numpy(keys.astype(np.int64)), *numbers],
        torch=torch.get_rng_state(),
        cuda=torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
    )


def set_random_state(state: dict) -> None:
    """Go on with the random numbers after a state of ``get_random_state``."""
    random.setstate(state['python'])
    name, keys, *numbers = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *numbers))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


class SeededBatch(list):
    """Indices of a batch's images, and the seed of their augmentations."""

    def __init__(self, indices: list[int], seed: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        """Seed a worker, which iterates once, before it loads the first image."""
        if get_worker_info() is not None:
            seed = int(np.random.SeedSequence(self.seed).generate_state(1)[0])
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)
        return super().__iter__()


class EndlessBatchSampler(Sampler[list[int]]):
    """Batches of one epoch after another, from any iteration on.

    Batches before it are drawn from the inner batch sampler and dropped, so
    that those after it are the same as without a break.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, batch_sampler: dict) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        self.batch_sampler = DATA_SAMPLERS.build(
            batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
        )
        #: The first iteration. None gives no batch at all.
        self.start: int | None = None
        self.seed = 0

    def __iter__(self) -> Iterator[SeededBatch]:
        """Yield image indices of one batch after another."""
        if self.start is not None:
            for i, indices in enumerate(islice(self._batches(), self.start, None), self.start):
                yield SeededBatch(indices, (self.seed, get_rank(), i))

    def __len__(self) -> int:
        """Batches of one epoch."""
        return len(self.batch_sampler)

    def _batches(self) -> Iterator[list[int]]:
        for epoch in count():
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            yield from self.batch_sampler


class _Skippable(chain):
    """A chain that onedl-mmengine's loop, too, can drop items of."""

    def skip_iter(self, num_iters: int) -> None:
        for _ in range(num_iters):
            next(self)


@LOOPS.register_module()
class FastResumeTrainLoop(IterBasedTrainLoop):
    """mmengine's ``IterBasedTrainLoop`` that resumes at once.

    mmengine's loop loads all images of the iterations before the one that it
    resumes from. This one only draws their indices. The images after it come
    in the same order as without a break, also if the config sets no seed: the
    seed is read from the checkpoint (not with ``diff_rank_seed``). Worker
    processes draw the augmentations of a batch from the seed, the rank and the
    iteration. With the random state from ``SafeCheckpointHook`` a resumed run
    on a CPU equals the uninterrupted one to the bit.

    A ``DataLoader`` that is built already is resumed as mmengine does it.
    """

    def __init__(self, runner: Runner, dataloader: dict | DataLoader, **kwargs) -> None:
        #: Of this process, from a checkpoint. None goes on with the current one.
        self.random_state: dict | None = None
        self._fixed_seed = True
        if isinstance(dataloader, dict):
            self._fixed_seed = 'seed' in dataloader['sampler']
            dataloader = dict(dataloader)
            torchs = dict(type=BatchSampler, drop_last=dataloader.pop('drop_last', False))
            inner = dataloader.get('batch_sampler') or torchs
            dataloader['batch_sampler'] = dict(type=EndlessBatchSampler, batch_sampler=inner)
        # Workers are started here, before a checkpoint is read: they get no
        # batch as long as the batch sampler's `start` is None.
        super().__init__(runner, dataloader, **kwargs)

    def run(self) -> Module:
        """Train, and return the model."""
        batches = self.dataloader.batch_sampler
        if isinstance(batches, EndlessBatchSampler):
            seeds_differ = self.runner._randomness_cfg.get('diff_rank_seed', False)
            if not self._fixed_seed and not seeds_differ:
                batches.sampler.seed = self.runner.seed
            batches.seed, batches.start = self.runner.seed, self._iter
            # mmengine's `run` drops the first `_iter` items.
            self.dataloader_iterator = _Skippable(repeat(None, self._iter), self._batches())
            self.fast_forward_on_resume = False  # onedl-mmengine would not drop them
        return super().run()

    def _batches(self) -> Iterator[dict]:
        """Yield batches, the first with the random state of the checkpoint."""
        batches = iter(self.dataloader)  # draws a seed for the workers
        if self.random_state is not None:
            set_random_state(self.random_state)
        yield from batches
