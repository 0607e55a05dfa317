"""mmdet's speed measurements, on a CPU too."""

from __future__ import annotations

import contextlib
import copy
import time
from types import ModuleType

import numpy as np
import torch
from mmcv.cnn import fuse_conv_bn
from mmdet.registry import MODELS
from mmdet.utils.benchmark import (
    BaseBenchmark,
    DataLoaderBenchmark,
    DatasetBenchmark,
    InferenceBenchmark,
    print_log,
    print_process_memory,
)
from mmengine.device import get_device, get_max_cuda_memory
from mmengine.runner import load_checkpoint
from torch import nn

from mmdet_centernet2.engine.hooks.fast_inference import speed_up_as_configured
from mmdet_centernet2.utils.errors import PreflightError


class _FitsData(BaseBenchmark):
    """Never asks for more rounds than there is data.

    mmdet's classes report no speed at all (and divide by it) when the data
    ends before ``max_iter``.
    """

    def run(self, repeat_num: int = 1) -> dict:
        """Measure ``repeat_num`` times.

        Raises:
            PreflightError: If too little data is there to warm up and measure.
        """
        data = self.data_loader if hasattr(self, 'data_loader') else self.dataset
        with contextlib.suppress(TypeError):  # an endless sampler has no length
            self.max_iter = min(self.max_iter, len(data))
        self.log_interval = min(self.log_interval, self.max_iter)
        if self.max_iter <= self.num_warmup:
            raise PreflightError(
                f'{self.max_iter} iterations, the lesser of the data and --max-iter, leave nothing '
                f'to measure after {self.num_warmup} of warm-up; set a smaller --num-warmup'
            )
        return super().run(repeat_num)


class FittingDataLoaderBenchmark(_FitsData, DataLoaderBenchmark):
    """mmdet's data loader benchmark for data of any length."""


class FittingDatasetBenchmark(_FitsData, DatasetBenchmark):
    """mmdet's data set benchmark for data of any length."""


class AnyDeviceInferenceBenchmark(_FitsData, InferenceBenchmark):
    """mmdet's inference benchmark, which calls CUDA in any case, on the device that is there.

    Without a checkpoint, initial weights are measured; the spread of the times
    is told besides their mean.
    """

    def _init_model(self, checkpoint: str | None, is_fuse_conv_bn: bool) -> nn.Module:
        model = MODELS.build(copy.deepcopy(self.cfg.model))
        if checkpoint is None:
            said = 'No --checkpoint: measuring initial weights, which find other numbers of boxes.'
            print_log(said, self.logger)
        else:
            load_checkpoint(model, checkpoint, map_location='cpu')
        if is_fuse_conv_bn:
            model = fuse_conv_bn(model)
        model = model.to(get_device()).eval()
        return speed_up_as_configured(model, self.cfg)

    def run_once(self) -> dict:
        """Images per second, and seconds of each ``model.test_step``, loading left out."""
        seconds = []
        for count, data in enumerate(self.data_loader, start=1):
            elapsed = self._time_step(data)
            if count > self.num_warmup:
                seconds.append(elapsed)
            if seconds and count % self.log_interval == 0:
                self._report(f'Done image [{count}/{self.max_iter}]', seconds)
            if count == self.max_iter:
                break
        return dict(fps=len(seconds) / sum(seconds), seconds=seconds)

    def average_multiple_runs(self, results: list[dict]) -> dict:
        """Report all results of :meth:`run_once` together."""
        fps = [result['fps'] for result in results]
        seconds = sum((result['seconds'] for result in results), [])
        print_log('============== Done ==================', self.logger)
        self._report(f'Overall on {get_device()}', seconds)
        if torch.cuda.is_available():
            print_log(f'cuda memory: {get_max_cuda_memory()} MB', self.logger)
        print_process_memory(self._process, self.logger)
        return dict(avg_fps=sum(fps) / len(fps), fps_list=fps, seconds=seconds)

    def _time_step(self, data: dict) -> float:
        _wait_for_device()
        start = time.perf_counter()
        with torch.no_grad():
            self.model.test_step(data)
        _wait_for_device()
        return time.perf_counter() - start

    def _report(self, title: str, seconds: list[float]) -> None:
        mean = 1000 * sum(seconds) / len(seconds)
        median, slow = np.percentile(seconds, (50, 95)) * 1000
        print_log(
            f'{title}, fps: {1000 / mean:.1f} img/s, times per image: {mean:.1f} ms/img '
            f'(median {median:.1f}, 95 % below {slow:.1f})',
            self.logger,
        )


def use_any_device(tool: ModuleType) -> None:
    """Put these classes in the place of mmdet's, in its ``analysis_tools/benchmark.py``."""
    tool.InferenceBenchmark = AnyDeviceInferenceBenchmark
    tool.DataLoaderBenchmark = FittingDataLoaderBenchmark
    tool.DatasetBenchmark = FittingDatasetBenchmark


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
