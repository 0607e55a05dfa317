"""Say whether an exported model obeys the rules of a backend.

Example: ``python tools/deploy_tools/check_graph.py end2end.onnx --backend
tensorrt``. The exit status is 1 if the backend cannot run the model.
"""
import argparse
import sys
from typing import Optional, Sequence

from mmdet_centernet2.deploy.graph_rules import (RELEASES, check_tensorrt,
                                                 errors, report)


def parse_args(arguments: Optional[Sequence[str]] = None
               ) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='ONNX file')
    parser.add_argument('--backend', choices=['tensorrt'], default='tensorrt')
    parser.add_argument(
        '--release', choices=list(RELEASES), default='10.1',
        help='oldest TensorRT that has to take it (default: %(default)s)')
    parser.add_argument(
        '--most', type=int, default=5, metavar='N',
        help='show at most N findings of a rule (default: %(default)s)')
    return parser.parse_args(arguments)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    args = parse_args(arguments)
    try:
        findings = check_tensorrt(args.model, args.release)
    except FileNotFoundError:
        print(f'check_graph: error: there is no file {args.model}',
              file=sys.stderr)
        return 2
    if findings:
        print(report(findings, args.most))
    wrong = len(errors(findings))
    print(f'{args.model}: {wrong} errors, {len(findings) - wrong} notes for '
          f'TensorRT {args.release} (its documented rules; not run)')
    return int(wrong > 0)


if __name__ == '__main__':
    sys.exit(main())
