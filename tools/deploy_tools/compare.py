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
from mmdet_centernet2.deploy.parity import Agreement, compare
from mmdet_centernet2.runtime import BACKENDS, DeployedModelError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config of the PyTorch model')
    add('checkpoint', help='its weights')
    add('model', help='file that tools/deploy.py wrote')
    add('--backend', default='onnxruntime', choices=sorted(BACKENDS), help='what runs it')
    add('--images', help='folder with images; the test data of the config by default, with its AP')
    add('--score-thr', type=float, help="smallest score compared; the model's by default")
    add('--box-tol', type=float, default=0.1, help='largest difference of coordinates in pixels')
    add('--score-tol', type=float, default=1e-3, help='largest difference of scores')
    add('--ap-tol', type=float, default=1e-3, help='largest difference of the APs')
    add('--out', type=Path, help='write a JSON report')
    add('--cfg-options', nargs='+', action=DictAction, help='change the config, key=value')
    return parser.parse_args()


def show(agreement: Agreement, differences: dict, report: dict) -> None:
    """Print a report."""
    print(
        f'{agreement.images} images, detections from score {agreement.score_thr:g} on:\n'
        f'  found by both              {agreement.pairs}\n'
        f'  found by PyTorch only      {agreement.only_reference}\n'
        f'  found by the other only    {agreement.only_other}\n'
        f'  largest difference, boxes  {agreement.box:.2g} px\n'
        f'  largest difference, scores {agreement.score:.2g}'
    )
    if agreement.mask:
        print(f'  largest difference, masks  {agreement.mask:.2%} of pixels')
    for key, difference in differences.items():
        one, other = report['reference_ap'][key], report['other_ap'][key]
        print(f'  {key:26} {one:.3f}, {other:.3f} (differ by {difference:.3f})')


def main() -> int:
    args = parse_args()
    register_all_modules()
    MMLogger.get_current_instance().setLevel(logging.WARNING)
    with errors_as_exit(DeployedModelError):
        cfg = load_config(args)
        require_full_match(cfg, args.checkpoint)
        if args.images is None:
            check_data(cfg, ['test_dataloader'], ['test_evaluator'])
        agreement, aps = compare(
            cfg, args.checkpoint, args.model, args.backend, args.images, args.score_thr
        )
    report = {**vars(agreement), **{f'{name}_ap': ap for name, ap in aps.items()}}
    differences = {key: abs(ap - aps['other'][key]) for key, ap in aps.get('reference', {}).items()}
    show(agreement, differences, report)
    if args.out is not None:
        args.out.write_text(json.dumps(report, indent=1) + '\n')
    agree = agreement.within(args.box_tol, args.score_tol)
    agree = agree and max(differences.values(), default=0) <= args.ap_tol
    print('They agree.' if agree else 'They do NOT agree.')
    return 0 if agree else 1


if __name__ == '__main__':
    raise SystemExit(main())
