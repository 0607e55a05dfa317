"""Time a model in PyTorch against the same model exported, in turn.

Without a checkpoint the weights are random, with the usual number of proposals
and detections. The export goes into --work-dir, unless --models names files
that were exported before.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from mmdet.apis import init_detector
from mmengine.config import Config, DictAction
from tqdm import tqdm

from mmdet_centernet2.cli.checks import PreflightError, load_config
from mmdet_centernet2.cli.deploy import quietly
from mmdet_centernet2.deploy.quantize import quantize
from mmdet_centernet2.deploy.winograd import winograd
from mmdet_centernet2.runtime import BACKENDS, open_session

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / 'tools/analysis_tools/speed').is_dir():
    sys.exit(
        f'{__file__} needs a clone of the repository, '
        'here are only the tools of an installed package.'
    )
sys.path.insert(1, str(ROOT / 'tools/analysis_tools'))

from speed import detectors  # noqa: E402
from speed.machine import environment  # noqa: E402
from speed.scenes import image_batch  # noqa: E402
from speed.section import paired, speedup  # noqa: E402

#: Seconds between two turns, in which the threads of the last one fall asleep.
PAUSE = 0.3
PYTORCH = 'PyTorch'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config of the model')
    add('--checkpoint', help='its weights; random ones unless given')
    shape = dict(nargs=2, default=(800, 1344), metavar=('HEIGHT', 'WIDTH'))
    add('--shape', type=int, **shape, help='of the images, both multiples of 32')
    engines = dict(nargs='+', default=['onnxruntime'], choices=sorted(BACKENDS))
    add('--backend', **engines, help='what runs the export')
    add('--models', type=Path, nargs='+', help='files exported from the checkpoint, for this shape')
    add('--int8', action='store_true', help='also quantise the backbone and the neck')
    add('--winograd', action='store_true', help='also with Winograd convolutions, each file')
    add('--rounds', type=int, default=10)
    add('--threads', type=int, default=torch.get_num_threads(), help='for all alike')
    busy = 'processor time, for busy machines; with --threads 1, as waiting threads count too'
    add('--cpu-time', action='store_true', help=busy)
    add('--work-dir', type=Path, default=Path('work_dirs/deploy_benchmark'))
    add('--cfg-options', nargs='+', action=DictAction, help='change the config, key=value')
    return parser.parse_args()


def random_model(args: argparse.Namespace, cfg: Config, batch: tuple) -> torch.nn.Module:
    """A model of random weights; their file and the config, with thresholds, are written."""
    model = detectors.build_from(cfg)
    detectors.set_score_threshold(model, *batch)
    head = getattr(model, 'roi_head', None) or model.bbox_head
    test_cfg = cfg.model.test_cfg
    test_cfg.get('rcnn', test_cfg).score_thr = head.test_cfg.score_thr
    args.checkpoint = str(args.work_dir / 'random.pth')
    torch.save(dict(state_dict=model.state_dict()), args.checkpoint)
    cfg.dump(args.work_dir / 'config.py')
    return model


def export(args: argparse.Namespace, cfg: Config) -> list[Path]:
    """Write ONNX files for images of exactly the shape asked for."""
    from mmdeploy.apis import torch2onnx

    height, width = args.shape
    deploy_cfg = Config.fromfile(ROOT / 'configs/deploy/detection_onnxruntime_static.py')
    deploy_cfg.ir_config.input_shape = (width, height)
    resize = dict(type='Resize', scale=(width, height), keep_ratio=False)
    cfg.test_pipeline = [dict(type='LoadImageFromFile'), resize, dict(type='PackDetInputs')]
    image = args.work_dir / 'noise.png'
    pixels = np.random.RandomState(0).randint(0, 256, (height, width, 3))
    cv2.imwrite(str(image), pixels.astype(np.uint8))
    folder = str(args.work_dir)
    torch2onnx(str(image), folder, 'model.onnx', deploy_cfg, cfg, args.checkpoint, 'cpu')
    files = [args.work_dir / 'model.onnx']
    if args.int8:
        files.append(args.work_dir / 'model-int8.onnx')
        quantize(*files, [image])
    if args.winograd:
        for path in tuple(files):
            files.append(path.with_name(f'{path.stem}-winograd.onnx'))
            winograd(path, files[-1])
    return files


def contestants(args: argparse.Namespace, cfg: Config) -> dict[str, Callable]:
    """What is timed, by name; each gives its detections' scores."""
    images, samples = image_batch(tuple(args.shape))
    if args.checkpoint is None:
        model = random_model(args, cfg, (images, samples))
    else:
        model = init_detector(cfg, args.checkpoint, device='cpu', palette='none')
    feeds = dict(input=images.numpy(), image_sizes=np.array([args.shape], np.float32))

    @torch.no_grad()
    def predict():
        (sample,) = model.predict(images, samples, rescale=False)
        return sample.pred_instances.scores.numpy()

    def runner(path, backend):
        session = open_session(path, backend, threads=args.threads)

        def run():
            scores = session(feeds)['dets'][0, :, 4]
            return scores[scores > 0]

        return run

    files = args.models or export(args, cfg)
    runners = {
        f'{path.stem}, {backend}': runner(path, backend)
        for path in files
        for backend in args.backend
    }
    return {PYTORCH: predict, **runners}


def measure(calls: dict[str, Callable], rounds: int, cpu_time: bool) -> dict:
    """Time all in turn; see ``speed.section.paired``."""
    found = {name: len(call()) for name, call in calls.items()}
    bar = tqdm(total=(rounds + 1) * len(calls), unit='run')

    def progress(name: str) -> None:
        bar.update()
        time.sleep(PAUSE)

    clock = time.process_time if cpu_time else time.perf_counter
    timings = paired(calls, rounds, progress=progress, clock=clock)
    bar.close()
    return {
        name: dict(
            milliseconds=timing.median * 1000,
            quartiles=[q * 1000 for q in timing.quartiles],
            speedup=speedup(timings[PYTORCH], timing).of_pairs,
            detections=found[name],
        )
        for name, timing in timings.items()
    }


def main() -> None:
    args = parse_args()
    with quietly():
        if any(length % 32 for length in args.shape):
            raise PreflightError(f'--shape {args.shape}: both must be multiples of 32.')
        cfg = load_config(args)
        args.work_dir.mkdir(parents=True, exist_ok=True)
        torch.set_num_threads(args.threads)
        rows = measure(contestants(args, cfg), args.rounds, args.cpu_time)
    print(f'{"":24} median (quartiles), ms       speed-up  detections')
    for name, row in rows.items():
        low, high = row['quartiles']
        times = f'{row["milliseconds"]:.0f} ({low:.0f} to {high:.0f})'
        print(f'{name:24} {times:29} {row["speedup"]:8.2f} {row["detections"]:11}')
    settings = {k: getattr(args, k) for k in ('config', 'shape', 'rounds', 'threads', 'cpu_time')}
    path = args.work_dir / 'report.json'
    report = dict(**settings, environment=environment(), rows=rows)
    path.write_text(json.dumps(report, indent=1) + '\n')
    print(f'All of it: {path.absolute()}')


if __name__ == '__main__':
    main()
