"""Resume a training without loading the images it has seen already."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, count, islice, repeat

from mmdet.registry import DATA_SAMPLERS, LOOPS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.nn import Module
from torch.utils.data import BatchSampler, DataLoader, Sampler

from .random_state import set_random_state


class EndlessBatchSampler(Sampler[list[int]]):
    """Batches of one epoch after another, from any iteration on.

    Batches before it are drawn from the inner batch sampler and dropped, so
    that those after it are the same as without a break.

    Args:
        sampler: Gives the indices of images.
        batch_size: Images of a batch.
        batch_sampler: Config of the inner batch sampler. None
            takes torch's. Defaults to None.
        drop_last: Whether torch's drops the last batch of an epoch if
            it is not full. Defaults to False.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        batch_sampler: dict | None = None,
        drop_last: bool = False,
    ) -> None:
        self.sampler = sampler
        self.batch_size = batch_size
        if batch_sampler is None:
            self.batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        else:
            self.batch_sampler = DATA_SAMPLERS.build(
                batch_sampler, default_args=dict(sampler=sampler, batch_size=batch_size)
            )
        #: The first iteration. None gives no batch at all.
        self.start: int | None = None

    def __iter__(self) -> Iterator[list[int]]:
        """Yield image indices of one batch after another."""
        if self.start is not None:
            yield from islice(self._batches(), self.start, None)

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
    seed is read from the checkpoint (not with ``diff_rank_seed``). With the
    random state from ``SafeCheckpointHook`` a resumed run on a CPU equals the
    uninterrupted one to the bit; random augmentations in worker processes
    (``num_workers`` above 0) differ.

    Args:
        runner: Of the training.
        dataloader: A ``DataLoader`` that is built already
            is resumed as mmengine does it.
        **kwargs: See mmengine's ``IterBasedTrainLoop``.
    """

    def __init__(self, runner: Runner, dataloader: dict | DataLoader, **kwargs) -> None:
        #: Of this process, from a checkpoint. None goes on with the current one.
        self.random_state: dict | None = None
        self._fixed_seed = True
        if isinstance(dataloader, dict):
            self._fixed_seed = 'seed' in dataloader['sampler']
            dataloader = dict(dataloader)
            dataloader['batch_sampler'] = dict(
                type=EndlessBatchSampler,
                batch_sampler=dataloader.get('batch_sampler'),
                drop_last=dataloader.pop('drop_last', False),
            )
        # Workers are started here, before a checkpoint is read: they get no
        # batch as long as the batch sampler's `start` is None.
        super().__init__(runner, dataloader, **kwargs)

    def run(self) -> Module:
        """Train.

        Returns:
            The model.
        """
        batches = self.dataloader.batch_sampler
        if isinstance(batches, EndlessBatchSampler):
            if not self._fixed_seed and not self._seeds_differ:
                batches.sampler.seed = self.runner.seed
            batches.start = self._iter
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

    @property
    def _seeds_differ(self) -> bool:
        """Whether the ranks have seeds of their own."""
        return self.runner._randomness_cfg.get('diff_rank_seed', False)
