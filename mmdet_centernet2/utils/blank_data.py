"""A blank image in the place of a data set, to measure a model alone."""
from __future__ import annotations

from types import ModuleType

import torch
from mmdet.structures import DetDataSample


def blank_batch(height: int, width: int) -> dict:
    """One black image, as a data loader would give it.

    Args:
        height (int): In pixels of the network input.
        width (int): In pixels of the network input.

    Returns:
        dict: ``inputs``, uint8 of shape (3, height, width), and
        ``data_samples``, each in a list.
    """
    sample = DetDataSample(metainfo=dict(
        img_id=0, img_path='blank', ori_shape=(height, width),
        img_shape=(height, width), scale_factor=(1., 1.)))
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[sample])


def use_blank_image(tool: ModuleType, height: int, width: int) -> None:
    """Let one of mmdet's tools read a blank image instead of its data.

    Args:
        tool (ModuleType): A tool that calls ``Runner.build_dataloader`` and
            nothing else of the runner.
        height (int): In pixels of the network input.
        width (int): In pixels of the network input.
    """

    print(f'Measuring a blank image of {height} x {width} pixels in the '
          'place of the data set.')

    class BlankData:
        """Stands in for mmengine's ``Runner``."""

        @staticmethod
        def build_dataloader(cfg: dict) -> list[dict]:
            return [blank_batch(height, width)]

    tool.Runner = BlankData
