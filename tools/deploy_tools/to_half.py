"""Write an exported model with backbone and neck in float16.

For TensorRT: ``python tools/deploy_tools/to_half.py end2end.onnx
end2end_fp16.onnx``, then ``trtexec --stronglyTyped --onnx=end2end_fp16.onnx``.
"""

import argparse

import onnx

from mmdet_centernet2.cli.deploy import quietly
from mmdet_centernet2.deploy.finish import half_features
from mmdet_centernet2.runtime import Detector


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('model', help='ONNX file, of a TensorRT config')
    parser.add_argument('output', help='file to write')
    args = parser.parse_args()
    with quietly():
        Detector(args.model)  # raises
        onnx.save(half_features(onnx.load(args.model)), args.output)
    print(f'wrote {args.output}')


if __name__ == '__main__':
    main()
