"""Detect on an image or a folder, with the options and outputs of the PyTorch demo."""

from __future__ import annotations

import json
import os.path as osp
import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .backends import BACKENDS
from .detections import Detections
from .detector import Detector
from .drawing import draw
from .errors import DeployedModelError, ImageError
from .images import list_images, read_image, write_image


def build_parser() -> ArgumentParser:
    """The command line for exported models."""
    parser = ArgumentParser(
        description='Detect on an image or a folder with an exported model '
        'and draw the boxes; needs neither torch nor mmdet'
    )
    add = parser.add_argument
    add('inputs', help='image file or folder')
    add('model', help='file that tools/deploy.py wrote')
    add('--backend', default='onnxruntime', choices=sorted(BACKENDS), help='what runs the model')
    add('--out-dir', default='outputs', help='folder for pictures (vis/) and results (preds/)')
    add('--device', default='cpu', help='such as cpu or cuda:0; cpu unless given')
    add('--threads', type=int, help='threads of the CPU; all cores unless given')
    add('--pred-score-thr', type=float, default=0.3, help='smallest score of a box that is drawn')
    add('--batch-size', type=int, default=1)
    add('--no-save-vis', action='store_true', help='write no pictures')
    add('--no-save-pred', action='store_true', help='write no results')
    add('--print-result', action='store_true', help='print the results')
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run on a command line, this process' unless given."""
    args = build_parser().parse_args(arguments)
    try:
        if args.batch_size < 1:
            raise DeployedModelError('--batch-size must be at least 1.')
        images = list_images(args.inputs)
        detector = Detector(args.model, args.backend, args.device, args.threads)
        detect(detector, images, args)
    except DeployedModelError as error:
        print(f'{osp.basename(sys.argv[0])}: error: {error}', file=sys.stderr)
        raise SystemExit(2) from error


def detect(detector: Detector, images: Sequence[Path], args: Namespace) -> None:
    """Detect on files; where one cannot be read, the results before it stay."""
    saves = not (args.no_save_vis and args.no_save_pred)
    where = f', see {osp.abspath(args.out_dir)}' if saves else ''
    best = []  # score in each image
    stems = Counter(path.stem for path in images)
    with tqdm(total=len(images), desc='Inference', unit='image') as progress:
        try:
            for batch in _batches(detector, images, args.batch_size):
                paths, pixels = zip(*batch)
                for found, *file in zip(detector(list(pixels)), paths, pixels):
                    # a.jpg and a.png do not share a file
                    stem = file[0].stem if stems[file[0].stem] == 1 else file[0].name
                    _write(found, *file, stem, detector, args)
                    best.append(float(max(found.scores, default=0)))
                progress.update(len(batch))
        except ImageError as error:
            raise ImageError(f'{error} The images before it are done{where}.') from error
    print(f'{len(images)} images are done{where}.')
    _tell_empty(best, args.pred_score_thr)


def _tell_empty(best: list[float], score_thr: float) -> None:
    """Say in how many images nothing reaches the threshold."""
    below = [score for score in best if score <= score_thr]
    if below:
        advice = f'; the best score there is {max(below):.4f}: lower --pred-score-thr to draw it'
        print(
            f'No box above {score_thr} in {len(below)} of {len(best)} images'
            f'{advice if max(below) else ""}.'
        )


def _batches(
    detector: Detector, images: Sequence[Path], size: int
) -> Iterator[list[tuple[Path, np.ndarray]]]:
    """Read images; one that cannot be read comes after those before it."""
    batch = []
    for path in images:
        try:
            batch.append((path, read_image(path, detector.info.decoder)))
        except ImageError:
            if batch:
                yield batch
            raise
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _write(
    found: Detections,
    path: Path,
    pixels: np.ndarray,
    stem: str,
    detector: Detector,
    args: Namespace,
) -> None:
    folder = Path(args.out_dir)
    if not args.no_save_vis:
        picture = draw(pixels, found, detector.info, args.pred_score_thr)
        write_image(folder / 'vis' / path.name, picture)
    if args.no_save_pred and not args.print_result:
        return
    result = found.as_dict(detector.info.classes)
    if not args.no_save_pred:
        file = folder / 'preds' / f'{stem}.json'
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(result))
    if args.print_result:
        tqdm.write(f'{path}: {json.dumps(result)}')
