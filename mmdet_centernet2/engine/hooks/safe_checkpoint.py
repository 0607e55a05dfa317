"""Checkpoints that a kill or a full disk cannot take away."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object, get_rank, is_main_process
from mmengine.fileio import LocalBackend, get_file_backend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from ...utils.files import write_atomically
from ..train_loop import get_random_state, set_random_state

#: Name of the file backend below among mmengine's.
ATOMIC_BACKEND = 'CenterNet2AtomicBackend'


@register_backend(ATOMIC_BACKEND, force=True)
class AtomicBackend(LocalBackend):
    """Local files that are written whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file; an existing one stays until the new one is whole."""
        Path(filepath).parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(filepath) as file:
            file.write(obj)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook`` that loses nothing.

    mmengine removes the oldest checkpoint, then writes the new one under its
    own name: with ``max_keep_ckpts=1`` a kill in between leaves none. Here a
    file gets its name once it is whole and on disk, then ``last_checkpoint``
    names it, and only then old ones are removed. A killed run leaves at most
    one outdated checkpoint and one temporary file; the next run in the folder
    removes both.

    A checkpoint also holds the random state of each process, for
    ``FastResumeTrainLoop``. Validation does not change it.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        # mmengine sets the first for one metric, the second for several
        self.best_ckpt_path: str | None = None
        self.best_ckpt_path_dict: dict[str, str | None] = {}
        self._before_val: dict | None = None
        self._random_states: list[dict] | None = None

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed run left."""
        super().before_train(runner)
        if self.file_client_args is None and type(self.file_backend) is LocalBackend:
            self.backend_args = dict(backend=ATOMIC_BACKEND)
            self.file_backend = get_file_backend(backend_args=self.backend_args)
            if is_main_process():
                for path in Path(self.out_dir).glob('.*.pth.????????'):
                    path.unlink()
                for path in Path(runner.work_dir).glob('.last_checkpoint.????????'):
                    path.unlink()

    def before_val(self, runner: Runner) -> None:
        """Keep the random state of the training."""
        self._before_val = get_random_state()

    def after_val(self, runner: Runner) -> None:
        """Go on with the random state of the training."""
        if self._before_val is not None:
            set_random_state(self._before_val)
            self._before_val = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add ``random_states``, one for each process, if one can resume from it."""
        if self._random_states is not None:
            checkpoint['random_states'] = self._random_states

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Hand the random state of this process to the training loop."""
        states = checkpoint.get('random_states', ())
        if runner._resume and get_rank() < len(states):
            runner.train_loop.random_state = states[get_rank()]

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        """Write a checkpoint, then its name, then remove outdated ones."""
        outdated = []
        if self.max_keep_ckpts > 0:
            steps = [kept for kept in self.keep_ckpt_ids if kept != step] + [step]
            # With those to be removed: `before_train` removes them if this
            # run is killed before it does.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            outdated = steps[: -self.max_keep_ckpts]
            self.keep_ckpt_ids = deque(steps[len(outdated) :], self.max_keep_ckpts)
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        self._random_states = all_gather_object(self._before_val or get_random_state())
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self._random_states = None
        if is_main_process():
            with write_atomically(Path(runner.work_dir) / 'last_checkpoint') as file:
                file.write(str(self.last_ckpt).encode())
            for old in outdated:
                name = self.filename_tmpl.format(old)
                self._remove(self.file_backend.join_path(self.out_dir, name))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Remove the best one so far after the new one is written."""
        path, paths = self.best_ckpt_path, self.best_ckpt_path_dict
        # mmengine removes what it finds here before it writes
        self.best_ckpt_path, self.best_ckpt_path_dict = None, dict.fromkeys(paths)
        super()._save_best_checkpoint(runner, metrics)
        self.best_ckpt_path = self.best_ckpt_path or path
        self.best_ckpt_path_dict = {
            metric: new or paths[metric] for metric, new in self.best_ckpt_path_dict.items()
        }
        if is_main_process():
            best = {None, self.best_ckpt_path, *self.best_ckpt_path_dict.values()}
            for old in {path, *paths.values()} - best:
                self._remove(old)

    def _remove(self, path: str) -> None:
        """Remove a file that may be gone already."""
        if self.file_backend.isfile(path):
            self.file_backend.remove(path)
