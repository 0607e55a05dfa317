"""Compare a PyTorch model with what was exported from it, on real images."""

import argparse
import json
import logging
from pathlib import Path

from mmdet.utils import register_all_modules
from mmengine.config import DictAction
from mmengine.logging import MMLogger

from mmdet_centernet2.checkpoint.match import require_full_match
from mmdet_centernet2.cli.checks import check_data, load_config
from mmdet_centernet2.cli.mmdet_tools import errors_as_exit
from mmdet_centernet2.deploy.parity import compare
from mmdet_centernet2.deploy.runtime import BACKENDS, DeployedModelError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the PyTorch model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument('model', help='file that tools/deploy.py wrote')
    parser.add_argument(
        '--backend', default='onnxruntime', choices=sorted(BACKENDS), help='what runs it'
    )
    parser.add_argument(
        '--images',
        help='folder with images; unless given, the test data of the config, with its precision',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        help='compare detections from this score on; all that the model gives unless said',
    )
    parser.add_argument(
        '--box-tol', type=float, default=0.1, help='largest difference of coordinates in pixels'
    )
    parser.add_argument(
        '--score-tol', type=float, default=1e-3, help='largest difference of scores'
    )
    parser.add_argument(
        '--ap-tol', type=float, default=1e-3, help='largest difference of the precisions'
    )
    parser.add_argument('--out', type=Path, help='write a JSON report')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='change the config, key=value'
    )
    return parser.parse_args()


def differences(report: dict) -> dict:
    """Differences of the precisions of both models, by name."""
    reference, other = (report.get(f'{name}_ap', {}) for name in ('reference', 'other'))
    return {key: abs(reference[key] - other[key]) for key in reference}


def show(report: dict) -> None:
    """Print a report."""
    print(
        f'{report["images"]} images, detections from score '
        f'{report["score_thr"]:g} on:\n'
        f'  found by both              {report["pairs"]}\n'
        f'  found by PyTorch only      {report["only_reference"]}\n'
        f'  found by the other only    {report["only_other"]}\n'
        f'  largest difference, boxes  {report["box"]:.2g} px\n'
        f'  largest difference, scores {report["score"]:.2g}'
    )
    if report['mask']:
        print(f'  largest difference, masks  {report["mask"]:.2%} of pixels')
    for key, difference in differences(report).items():
        print(
            f'  {key:26} {report["reference_ap"][key]:.3f}, '
            f'{report["other_ap"][key]:.3f} (differ by {difference:.3f})'
        )


def agrees(report: dict, args: argparse.Namespace) -> bool:
    """Whether everything is within the tolerances."""
    alone = report['only_reference'] + report['only_other']
    return (
        alone == 0
        and report['box'] <= args.box_tol
        and report['score'] <= args.score_tol
        and max(differences(report).values(), default=0) <= args.ap_tol
    )


def main() -> int:
    args = parse_args()
    register_all_modules()
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with errors_as_exit(DeployedModelError):
        cfg = load_config(args)
        require_full_match(cfg, args.checkpoint)
        if args.images is None:
            check_data(cfg, ['test_dataloader'], ['test_evaluator'])
        report = compare(
            cfg, args.checkpoint, args.model, args.backend, args.images, args.score_thr
        )
    show(report)
    if args.out is not None:
        args.out.write_text(json.dumps(report, indent=1) + '\n')
    if agrees(report, args):
        print('They agree.')
        return 0
    print('They do NOT agree.')
    return 1


if __name__ == '__main__':
    raise SystemExit(main())
