"""Make labels for unlabelled images with any detector of mmdet.

Self-training takes the detections above a score as if they were annotations.
"""

from __future__ import annotations

import argparse
import json
import os
import os.path as osp
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from mmdet.apis import init_detector
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import encode_mask_results
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import DictAction
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.structures import InstanceData
from mmengine.utils import scandir
from rich.progress import track
from torch import nn
from torch.utils.data import DataLoader

from mmdet_centernet2.checkpoint.match import require_full_match
from mmdet_centernet2.cli.checks import PreflightError, check_devices, load_config
from mmdet_centernet2.cli.image_demo import class_names
from mmdet_centernet2.cli.mmdet_tools import message_of
from mmdet_centernet2.datasets.transforms.loading import ImageReadError
from mmdet_centernet2.utils.files import write_atomically

_DECIMALS = 4  # of pixels and of scores


def main(argv: Sequence[str] | None = None) -> None:
    """Run on a command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file of the detector')
    add('checkpoint', help='checkpoint file of the detector')
    add('images', help='folder, or COCO file that lists them (image_info_unlabeled2017.json)')
    add('out', help='COCO file to write, with a score for each annotation')
    add('--img-dir', help='where the images are that a COCO file lists')
    add(
        '--categories',
        help='COCO file to take the category ids from, such as that of the labelled images; by '
        "default that which lists the images, if it names all of the model's classes, or 1, 2, ...",
    )
    default = ' (default: %(default)s)'
    add('--score-thr', type=float, default=0.5, help='smallest score of a label' + default)
    add('--device', help='such as cuda:0 or cpu; the GPU if there is one unless given')
    add('--batch-size', type=int, default=1, help='images detected on at once' + default)
    add('--workers', type=int, default=2, help='processes that load images' + default)
    add('--cfg-options', nargs='+', action=DictAction, help='config keys to change, as key=value')
    args = parser.parse_args(argv)
    cfg = load_config(args)
    check_devices(args)
    folder, images, known = list_images(args.images, args.img_dir)
    checkpoint = require_full_match(cfg, args.checkpoint)
    categories = category_block(class_names(checkpoint, cfg), known, args.categories)
    model = init_detector(cfg, args.checkpoint, device=args.device or get_device())
    loading = dict(batch_size=args.batch_size, num_workers=args.workers)
    settings = dict(
        config=osp.abspath(args.config),
        cfg_options={k: str(v) for k, v in (args.cfg_options or {}).items()},
        checkpoint=args.checkpoint,  # may be an address
        score_thr=args.score_thr,
        folder=osp.abspath(folder),
    )
    pipeline = get_test_pipeline_cfg(cfg)
    go_on = f'What was done is in {args.out}.partial; the same command goes on from there.'
    try:
        make_pseudo_labels(
            model, pipeline, folder, images, categories, args.out, settings, **loading
        )
    except ImageReadError as error:
        raise PreflightError(f'{message_of(error)} {go_on}') from error
    except KeyboardInterrupt:
        print(f'\ninterrupted. {go_on}')
        raise SystemExit(130) from None


def list_images(source: str, img_dir: str | None = None) -> tuple[str, list[dict], list[dict]]:
    """The folder of the images, their entries, and the categories of the COCO file, if any."""
    if source.endswith('.json'):
        if img_dir is None:
            raise PreflightError(f'{source} lists file names; say with --img-dir where they are.')
        content = _read_coco(source)
        for image in content['images']:
            path = osp.join(img_dir, image['file_name'])
            if not osp.isfile(path):
                raise PreflightError(
                    f'{source} lists {image["file_name"]}, but there is no {path}.'
                )
        return img_dir, content['images'], content.get('categories', [])
    if not osp.isdir(source):
        raise PreflightError(f'there is no folder {source} (looked for {osp.abspath(source)}).')
    names = sorted(scandir(source, IMG_EXTENSIONS, recursive=True, case_sensitive=False))
    if not names:
        raise PreflightError(f'folder {source} holds no image ({" ".join(IMG_EXTENSIONS)}).')
    return source, [dict(id=i, file_name=n) for i, n in enumerate(names, 1)], []


def category_block(
    classes: Sequence[str], known: Sequence[dict] = (), path: str | None = None
) -> list[dict]:
    """The ``categories`` of the file, in the order of the model's classes.

    Ids are those of ``known`` if it names all classes, else 1, 2, ...; or those of
    the COCO file at ``path``, which must name all.
    """
    if path:
        known = _read_coco(path).get('categories', [])
    by_name = {category['name']: category for category in known}
    missing = [name for name in classes if name not in by_name]
    if not missing:
        return [by_name[name] for name in classes]
    if path:
        raise PreflightError(
            f'--categories {path}: no category is named {missing[:5]} ({len(missing)} of the '
            f"model's {len(classes)} classes are missing); there are {sorted(by_name)[:10]}."
        )
    return [dict(id=i, name=n) for i, n in enumerate(classes, 1)]


def make_pseudo_labels(
    model: nn.Module,
    pipeline: Sequence[dict],
    folder: str,
    images: list[dict],
    categories: list[dict],
    out: str,
    settings: dict,
    **loading,
) -> None:
    """Detect on images and write a COCO file with ``score``.

    The file appears when all is done. Until then the results are in
    ``out + '.partial'``, one line of JSON for each image, and the same call
    goes on from there if the ``settings`` are the same.

    Args:
        model: A detector of mmdet, in evaluation mode.
        pipeline: Its test pipeline.
        settings: ``score_thr`` and what else the results depend on, for the file.
        **loading: Arguments of :class:`torch.utils.data.DataLoader`.
    """
    if osp.exists(out):
        raise PreflightError(f'{out} exists already; move it away or give another name.')
    if not osp.isdir(osp.dirname(osp.abspath(out))):
        raise PreflightError(f'{out}: its folder does not exist; make it first.')
    partial_file = f'{out}.partial'
    settings = dict(settings, categories={each['name']: each['id'] for each in categories})
    records = {record['file_name']: record for record in _resume(partial_file, settings)}
    if records:
        print(f'{len(records)} of {len(images)} images are done already, see {partial_file}')
    left = [image for image in images if image['file_name'] not in records]
    # no instances: for LoadAnnotations, which test pipelines have
    samples = [
        dict(img_path=osp.join(folder, i['file_name']), img_id=i['id'], instances=[]) for i in left
    ]
    loader = DataLoader(samples, collate_fn=partial(_load, Compose(pipeline)), **loading)
    with torch.no_grad():
        found = (sample for batch in loader for sample in model.test_step(batch))
        for image, sample in track(zip(left, found), 'detecting', len(left)):
            labels = annotations_of(sample.pred_instances, categories, settings['score_thr'])
            size = dict(zip(('height', 'width'), sample.ori_shape))
            record = dict(file_name=image['file_name'], size=size, annotations=labels)
            with open(partial_file, 'a') as file:
                file.write(json.dumps(record) + '\n')
            records[image['file_name']] = record
    done = [(image, records[image['file_name']]) for image in images]
    # ids of images may have been others when an earlier run began
    labels = [dict(a, image_id=image['id']) for image, r in done for a in r['annotations']]
    content = dict(
        info=dict(description='Pseudo labels: detections taken as annotations', **settings),
        images=[dict(image, **record['size']) for image, record in done],
        annotations=[dict(label, id=i) for i, label in enumerate(labels, 1)],
        categories=categories,
    )
    with write_atomically(out) as file:
        file.write(json.dumps(content).encode())
    os.remove(partial_file)
    labelled = len({label['image_id'] for label in labels})
    print(f'{out}: {len(labels)} labels on {labelled} of {len(images)} images')


def _load(pipeline: Compose, images: list[dict]) -> dict:
    """A batch of images."""
    batch = []
    for image in images:
        try:
            batch.append(pipeline(image))
        except Exception as error:  # mmcv's reader does not name the file
            name = type(error).__name__
            raise ImageReadError(f'image {image["img_path"]}: {name}: {error}') from error
    return pseudo_collate(batch)


def annotations_of(
    instances: InstanceData, categories: Sequence[dict], score_thr: float
) -> list[dict]:
    """Detections of one image as COCO annotations without ``id`` and ``image_id``, best first.

    ``categories`` has one for each label. Boxes that round to no area are left out.
    """
    kept = instances[instances.scores >= score_thr]
    kept = kept[kept.scores.argsort(descending=True, stable=True)].cpu()
    if len(kept) and kept.labels.max() >= len(categories):
        raise PreflightError(
            f'the model detects class {kept.labels.max()}, but only {len(categories)} class names '
            'are known; give the config the classes of its data set (metainfo).'
        )
    boxes = get_box_tensor(kept.bboxes).double().numpy()
    boxes = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).round(_DECIMALS)
    annotations = []
    for i in np.flatnonzero((boxes[:, 2:] > 0).all(1)).tolist():
        ann = dict(
            category_id=categories[kept.labels[i]]['id'],
            bbox=boxes[i].tolist(),
            area=round(float(boxes[i, 2:].prod()), _DECIMALS),
            iscrowd=0,
            score=round(float(kept.scores[i]), _DECIMALS),
        )
        if 'masks' in kept:
            (rle,) = encode_mask_results([np.asarray(kept.masks[i])])
            ann['segmentation'] = dict(rle, counts=rle['counts'].decode())
        annotations.append(ann)
    return annotations


def _read_coco(path: str) -> dict:
    try:
        content = json.loads(Path(path).read_text())
        for image in content['images']:
            image['id'], image['file_name']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PreflightError(
            f'{path} is not a COCO file with "images", each with "id" and "file_name": '
            f'{type(error).__name__}: {error}.'
        ) from error
    return content


def _resume(path: str, settings: dict) -> list[dict]:
    """What an earlier run wrote; the file is then ready for more lines."""
    text = Path(path).read_bytes() if osp.exists(path) else b''
    whole = text[: text.rfind(b'\n') + 1]  # it may have been stopped within a line
    if not whole:
        Path(path).write_text(json.dumps(dict(settings=settings)) + '\n')
        return []
    first, *records = map(json.loads, whole.splitlines())
    other = {key: old for key, old in first['settings'].items() if old != settings.get(key)}
    if other:
        raise PreflightError(
            f'{path} holds what an earlier run made with other settings: {other}. Use them to go '
            'on with it, or move it away to start anew.'
        )
    os.truncate(path, len(whole))
    return records
