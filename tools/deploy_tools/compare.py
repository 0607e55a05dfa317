"""Compare a PyTorch model with what was exported from it, on real images."""

import argparse
import json
from pathlib import Path

from mmdet.apis import init_detector
from mmengine.config import DictAction

from mmdet_centernet2.checkpoint.match import require_full_match
from mmdet_centernet2.cli.checks import check_data, load_config
from mmdet_centernet2.cli.deploy import quietly
from mmdet_centernet2.deploy import parity
from mmdet_centernet2.runtime import BACKENDS, Detector


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


def compare(args: argparse.Namespace) -> tuple[parity.Agreement, dict[str, dict[str, float]]]:
    """How far both agree; figures of the evaluator for ``reference`` and ``other``."""
    cfg = load_config(args)
    require_full_match(cfg, args.checkpoint)
    if args.images is None:
        check_data(cfg, ['test_dataloader'], ['test_evaluator'])
    detector = Detector(args.model, args.backend)
    images = parity.test_images(cfg, args.images)
    model = init_detector(cfg, args.checkpoint, device='cpu', palette='none')
    finders = dict(reference=parity.torch_finder(model), other=parity.exported_finder(detector))
    found, _ = parity.find_all(finders, images)
    score_thr = detector.info.score_thr if args.score_thr is None else args.score_thr
    result = parity.agreement(found['reference'], found['other'], score_thr)
    if args.images is not None:
        return result, {}
    return result, {n: parity.average_precision(cfg, images, each) for n, each in found.items()}


def main() -> int:
    args = parse_args()
    with quietly():
        found, aps = compare(args)
    print(
        f'{found.images} images, detections from score {found.score_thr:g} on:\n'
        f'  found by both              {found.pairs}\n'
        f'  found by PyTorch only      {found.only_reference}\n'
        f'  found by the other only    {found.only_other}\n'
        f'  largest difference, boxes  {found.box:.2g} px\n'
        f'  largest difference, scores {found.score:.2g}\n'
        f'  largest difference, masks  {found.mask:.2%} of pixels'
    )
    agree = found.within(args.box_tol, args.score_tol)
    for key, ap in aps.get('reference', {}).items():
        other = aps['other'][key]
        print(f'  {key:26} {ap:.3f}, {other:.3f} (differ by {abs(ap - other):.3f})')
        agree = agree and abs(ap - other) <= args.ap_tol
    if args.out is not None:
        report = {**vars(found), **{f'{name}_ap': ap for name, ap in aps.items()}}
        args.out.write_text(json.dumps(report, indent=1) + '\n')
    print('They agree.' if agree else 'They do NOT agree.')
    return 0 if agree else 1


if __name__ == '__main__':
    raise SystemExit(main())
