"""Detect on images, folders and videos, with the options and outputs of the PyTorch demo."""

from __future__ import annotations

import json
import os.path as osp
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .backends import BACKENDS
from .detections import Detections
from .detector import Detector
from .drawing import draw
from .errors import DeployedModelError, ImageError
from .images import list_images, read_image, write_image
from .tiles import TiledDetector
from .video import Video, is_video


def build_parser() -> ArgumentParser:
    """The command line for exported models."""
    parser = ArgumentParser(
        description='Detect on an image, a folder or a video with an exported model '
        'and draw the boxes; needs neither torch nor mmdet'
    )
    add = parser.add_argument
    add('inputs', help='image file, folder or video file')
    add('model', help='file that tools/deploy.py wrote')
    add('--backend', default='onnxruntime', choices=sorted(BACKENDS), help='what runs the model')
    add('--device', default='cpu', help='such as cpu or cuda:0; cpu unless given')
    add('--threads', type=int, help='threads of the CPU; all cores unless given')
    add_detect_arguments(parser)
    return parser


def add_detect_arguments(parser: ArgumentParser) -> None:
    """The options of :func:`detect`."""
    add = parser.add_argument
    add('--out-dir', default='outputs', help='folder for pictures (vis/) and results (preds/)')
    add('--pred-score-thr', type=float, default=0.3, help='smallest score of a box that is drawn')
    add('--batch-size', type=int, default=1, help='images detected on at once')
    add('--tile', type=int, metavar='SIZE', help='side of tiles, in pixels, for large pictures')
    add('--overlap', type=float, default=0.2, help='of tiles, as a part of their side')
    add('--no-save-vis', action='store_true', help='write no pictures')
    add('--no-save-pred', action='store_true', help='write no results')
    add('--print-result', action='store_true', help='print the results')


def main(arguments: Sequence[str] | None = None) -> None:
    """Run on a command line, this process' unless given."""
    args = build_parser().parse_args(arguments)
    try:
        run(args, [args.inputs])
    except DeployedModelError as error:
        print(f'{osp.basename(sys.argv[0])}: error: {error}', file=sys.stderr)
        raise SystemExit(2) from error


def run(args: Namespace, inputs: Sequence[str]) -> None:
    """Detect on images, folders and videos as the arguments say.

    Raises:
        DeployedModelError: If the inputs or the model cannot be used.
    """
    files = [path for each in inputs for path in list_images(each)]
    detect(Detector(args.model, args.backend, args.device, args.threads), files, args)


def detect(detector: Detector, files: Sequence[Path], args: Namespace) -> None:
    """Detect on images, then on videos; where one cannot be read, the results before it stay.

    Args:
        detector: Gives :class:`Detections` for each of a list of images; its
            ``info`` has ``classes``, ``palette`` and ``decoder``.
        files: Images and videos.
        args: Of :func:`add_detect_arguments`.

    Raises:
        DeployedModelError: If a file cannot be read or written, or for tiles
            that cannot be had.
    """
    if args.batch_size < 1:
        raise DeployedModelError('--batch-size must be at least 1.')
    if args.tile is not None:
        detector = TiledDetector(detector, args.tile, args.overlap, args.pred_score_thr)
    names = result_names(files)
    images = {path: name for path, name in names.items() if not is_video(path)}
    if images:
        _detect_images(detector, images, args)
    for path in filter(is_video, names):
        _detect_video(detector, path, names[path], args)


def result_names(files: Sequence[Path]) -> dict[Path, str]:
    """What each file's results are called: its stem, or as much of its path as no other has."""
    stems = Counter(path.stem for path in set(files))
    names = Counter(path.name for path in set(files))

    def name_of(path: Path) -> str:
        if stems[path.stem] == 1:
            return path.stem
        in_full = '_'.join(path.relative_to(path.anchor).parts)
        return path.name if names[path.name] == 1 else in_full

    return {path: name_of(path) for path in files}


def _where(args: Namespace) -> str:
    saves = not (args.no_save_vis and args.no_save_pred)
    return f', see {osp.abspath(args.out_dir)}' if saves else ''


def _detected(
    detector: Detector, frames: Iterator[np.ndarray], size: int
) -> Iterator[tuple[np.ndarray, Detections]]:
    """Run in batches; a frame that cannot be read fails after those before it."""
    failed: ImageError | None = None
    while failed is None:
        batch: list[np.ndarray] = []
        try:
            for frame in islice(frames, size):
                batch.append(frame)
        except ImageError as error:
            failed = error
        if not batch:
            break
        yield from zip(batch, detector(batch))
    if failed is not None:
        raise failed


def _results(
    detector: Detector,
    frames: Iterator[np.ndarray],
    titles: Iterable[str],
    args: Namespace,
    **progress: Any,
) -> Iterator[tuple[np.ndarray | None, str]]:
    """The picture and the JSON of each frame, as far as they are wanted."""
    best = []
    found_in = tqdm(_detected(detector, frames, args.batch_size), **progress)
    for (pixels, found), title in zip(found_in, titles):
        picture, text = None, ''
        if not args.no_save_vis:
            picture = draw(pixels, found, detector.info, args.pred_score_thr)
        if args.print_result or not args.no_save_pred:  # masks need pycocotools
            text = json.dumps(found.as_dict(detector.info.classes))
        if args.print_result:
            tqdm.write(f'{title}: {text}')
        yield picture, text
        best.append(float(max(found.scores, default=0)))
    below = [score for score in best if score <= args.pred_score_thr]
    if below:
        advice = f'; the best score there is {max(below):.4f}: lower --pred-score-thr to draw it'
        print(
            f'No box above {args.pred_score_thr} in {len(below)} of {len(best)} '
            f'{progress["unit"]}s{advice if max(below) else ""}.'
        )


def _detect_video(detector: Detector, path: Path, name: str, args: Namespace) -> None:
    """Write the video with boxes, and a list of what is found in each frame."""
    video, folder, start = Video(path), Path(args.out_dir), time.monotonic()
    titles = (f'{path}, frame {number}' for number in count())
    progress = dict(desc=path.name, total=video.count or None, unit='frame')
    with ExitStack() as files:  # whole files after an interruption, too
        if not args.no_save_vis:
            writer = video.writer(folder / 'vis' / f'{name}.mp4')
            files.callback(writer.release)
        if not args.no_save_pred:
            (folder / 'preds').mkdir(parents=True, exist_ok=True)
            preds = files.enter_context(open(folder / 'preds' / f'{name}.json', 'w'))
            preds.write(f'{{"fps": {video.fps}, "frames": [')
            files.callback(preds.write, '\n]}\n')
        results = _results(detector, iter(video), titles, args, **progress)
        for number, (picture, text) in enumerate(results, 1):
            if picture is not None:
                writer.write(picture)
            if not args.no_save_pred:
                preds.write(f'{"," if number > 1 else ""}\n{text}')
    rate = number / (time.monotonic() - start)
    print(f'{path}: {number} frames are done, {rate:.1f} a second{_where(args)}.')


def _detect_images(detector: Detector, images: Mapping[Path, str], args: Namespace) -> None:
    """Write a picture with boxes, and what is found, of each."""
    folder = Path(args.out_dir)
    frames = (read_image(path, detector.info.decoder) for path in images)
    progress = dict(desc='Inference', total=len(images), unit='image')
    results = _results(detector, frames, map(str, images), args, **progress)
    try:
        for (picture, text), (path, name) in zip(results, images.items()):
            if picture is not None:
                write_image(folder / 'vis' / (path.name if name == path.stem else name), picture)
            if not args.no_save_pred:
                (folder / 'preds').mkdir(parents=True, exist_ok=True)
                (folder / 'preds' / f'{name}.json').write_text(text)
    except ImageError as error:
        raise ImageError(f'{error} The images before it are done{_where(args)}.') from error
    print(f'Images done: {len(images)}{_where(args)}.')
