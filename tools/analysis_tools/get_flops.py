"""Count parameters and multiply-adds: mmdet's get_flops, also without data.

    tools/analysis_tools/get_flops.py CONFIG [--shape HEIGHT [WIDTH]]
                                      [arguments of mmdet's get_flops]

With --shape a blank image of that size, in pixels of the network input, takes
the place of the validation data. The count is of multiply-adds (half of what
some call FLOPs) of convolutions and matrix products; norms, RoIAlign and NMS
are not in it.
"""

import sys
from argparse import ArgumentParser, Namespace
from types import ModuleType

import torch
from mmdet.structures import DetDataSample

import mmdet_centernet2  # noqa: F401  registers the models
from mmdet_centernet2.cli.checks import check_data, load_config
from mmdet_centernet2.cli.mmdet_tools import run_mmdet_tool


def take_shape() -> list[int] | None:
    """Read --shape off the command line, leaving the rest to mmdet's tool."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--shape', type=int, nargs='+')
    own, rest = parser.parse_known_args()
    sys.argv[1:] = rest
    if {'-h', '--help'} & set(rest):
        print(__doc__)
    return own.shape


def blank_batch(height: int, width: int) -> dict:
    """One black image, as a data loader would give it.

    Args:
        height: In pixels of the network input.
        width: In pixels of the network input.

    Returns:
        ``inputs``, uint8 of shape (3, height, width), and
        ``data_samples``, each in a list.
    """
    sample = DetDataSample(
        metainfo=dict(
            img_id=0,
            img_path='blank',
            ori_shape=(height, width),
            img_shape=(height, width),
            scale_factor=(1.0, 1.0),
        )
    )
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[sample])


def use_blank_image(tool: ModuleType, height: int, width: int) -> None:
    """Let one of mmdet's tools read a blank image instead of its data.

    Args:
        tool: A tool that calls ``Runner.build_dataloader`` and
            nothing else of the runner.
        height: In pixels of the network input.
        width: In pixels of the network input.
    """

    print(f'Measuring a blank image of {height} x {width} pixels in the place of the data set.')

    class BlankData:
        """Stands in for mmengine's ``Runner``."""

        @staticmethod
        def build_dataloader(cfg: dict) -> list[dict]:
            return [blank_batch(height, width)]

    tool.Runner = BlankData


def main() -> None:
    """Run mmdet's tool."""
    shape = take_shape()

    def adapt(tool: ModuleType) -> None:
        if shape is not None:
            use_blank_image(tool, shape[0], shape[-1])

    def check(args: Namespace) -> None:
        cfg = load_config(args)
        if shape is None:
            check_data(cfg, ['val_dataloader'], [])

    run_mmdet_tool('analysis_tools/get_flops.py', check, adapt)


if __name__ == '__main__':
    main()
