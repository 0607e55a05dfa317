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
from types import ModuleType, SimpleNamespace

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
    """One black image, as a data loader would give it: uint8 ``inputs``, ``data_samples``."""
    shape = (height, width)
    about = dict(img_id=0, img_path='blank', ori_shape=shape, img_shape=shape)
    sample = DetDataSample(metainfo=dict(about, scale_factor=(1.0, 1.0)))
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    return dict(inputs=[image], data_samples=[sample])


def main() -> None:
    """Run mmdet's tool."""
    shape = take_shape()

    def adapt(tool: ModuleType) -> None:
        """Let it read a blank image; it asks the runner for nothing else."""
        if shape is not None:
            height, width = shape[0], shape[-1]
            print(f'Measuring a blank image of {height} x {width} pixels in the place of the data.')
            batch = blank_batch(height, width)
            tool.Runner = SimpleNamespace(build_dataloader=lambda cfg: [batch])

    def check(args: Namespace) -> None:
        cfg = load_config(args)
        if shape is None:
            check_data(cfg, ['val_dataloader'], [])

    run_mmdet_tool('analysis_tools/get_flops.py', check, adapt)


if __name__ == '__main__':
    main()
