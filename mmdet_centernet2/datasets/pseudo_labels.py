"""Labels for unlabelled images, made by a detector, in the COCO format.

Self-training takes the detections above a score as if they were annotations
(of 0.5 in the original). What is done is kept beside the file to be made,
image by image, so that an interrupted run goes on where it stopped.
"""
from __future__ import annotations

import json
import os
import os.path as osp
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

import numpy as np
import torch
from mmdet.apis.det_inferencer import IMG_EXTENSIONS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import get_box_tensor
from mmdet.structures.mask import encode_mask_results
from mmengine.dataset import Compose, pseudo_collate
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from mmengine.utils import ProgressBar, scandir
from torch import nn
from torch.utils.data import DataLoader, Dataset

from .transforms import ImageReadError

#: Boxes are written to this many decimals of a pixel, and scores likewise.
DECIMALS = 4


class PseudoLabelError(ValueError):
    """Pseudo labels cannot be made as asked; the message says what to do."""


@dataclass
class UnlabelledImages:
    """Images to make labels for.

    Attributes:
        folder (str): Where they are.
        images (list[dict]): COCO entries with ``id`` and ``file_name``, the
            path below ``folder``.
        categories (list[dict]): Categories that came with the list.
    """
    folder: str
    images: list[dict]
    categories: list[dict]

    @classmethod
    def from_folder(cls, folder: str) -> 'UnlabelledImages':
        """All images in a folder and the folders in it, in sorted order.

        Args:
            folder (str): The folder.

        Returns:
            UnlabelledImages: They, numbered from 1.

        Raises:
            PseudoLabelError: If there are none.
        """
        if not osp.isdir(folder):
            raise PseudoLabelError(f'there is no folder {folder} (looked for '
                                   f'{osp.abspath(folder)})')
        names = sorted(
            scandir(
                folder, IMG_EXTENSIONS, recursive=True, case_sensitive=False))
        if not names:
            raise PseudoLabelError(
                f'folder {folder} holds no image (a file ending in '
                f'{" ".join(IMG_EXTENSIONS)})')
        images = [dict(id=i, file_name=n) for i, n in enumerate(names, 1)]
        return cls(folder, images, [])

    @classmethod
    def from_json(cls, path: str, folder: str) -> 'UnlabelledImages':
        """The images that a COCO file lists, such as image_info_*.json.

        Args:
            path (str): The file; annotations in it are not looked at.
            folder (str): Where the images are.

        Returns:
            UnlabelledImages: They, as the file numbers them.

        Raises:
            PseudoLabelError: If the file or an image is not there.
        """
        content = read_coco(path)
        images = content['images']
        for image in images:
            file = osp.join(folder, image['file_name'])
            if not osp.isfile(file):
                raise PseudoLabelError(
                    f'{path} lists {image["file_name"]}, but there is no '
                    f'{file}; name the folder of the images')
        return cls(folder, images, content.get('categories', []))


@dataclass
class Summary:
    """What was written.

    Attributes:
        images (int): Images, with or without labels.
        labelled (int): Images with labels.
        annotations (int): Labels.
    """
    images: int
    labelled: int
    annotations: int

    def __str__(self) -> str:
        return (f'{self.annotations} labels on {self.labelled} of '
                f'{self.images} images')


def read_coco(path: str) -> dict:
    """Read a COCO file that lists images.

    Args:
        path (str): The file.

    Returns:
        dict: Its content, with ``images`` that have an id and a file name.

    Raises:
        PseudoLabelError: If it is not one.
    """
    try:
        content = json.loads(Path(path).read_text())
        for image in content['images']:
            image['id'], image['file_name']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PseudoLabelError(
            f'{path} is not a COCO file with "images", each with "id" and '
            f'"file_name": {type(error).__name__}: {error}') from error
    return content


def category_block(classes: Sequence[str], known: Sequence[dict] = (),
                   required: bool = False) -> list[dict]:
    """The ``categories`` of the file, in the order of the model's classes.

    Args:
        classes (Sequence[str]): Names of the model's classes.
        known (Sequence[dict]): Categories to take the ids from, if they name
            all classes; without, ids count from 1.
        required (bool): Whether ``known`` must name all classes.

    Returns:
        list[dict]: One entry for each class.

    Raises:
        PseudoLabelError: If ``known`` lacks a required class.
    """
    by_name = {category['name']: category for category in known}
    missing = [name for name in classes if name not in by_name]
    if missing and required:
        raise PseudoLabelError(
            f'no category is named {missing[:5]} ({len(missing)} of the '
            f'model\'s {len(classes)} classes are missing); there are '
            f'{sorted(by_name)[:10]}')
    if missing:
        return [dict(id=i, name=n) for i, n in enumerate(classes, 1)]
    return [dict(by_name[name]) for name in classes]


def annotations_of(instances: InstanceData, image_id: int,
                   categories: Sequence[dict],
                   score_thr: float) -> list[dict]:
    """Detections of one image as COCO annotations without ``id``.

    Args:
        instances (InstanceData): ``bboxes`` (N, 4) as corners in pixels of
            the image, ``scores``, ``labels``, and ``masks`` where the model
            makes them.
        image_id (int): Of the image.
        categories (Sequence[dict]): One for each label.
        score_thr (float): Smallest score that is kept.

    Returns:
        list[dict]: Best first; boxes that round to no area are left out.

    Raises:
        PseudoLabelError: If a label has no category.
    """
    kept = instances[instances.scores >= score_thr]
    kept = kept[kept.scores.argsort(descending=True, stable=True)].cpu()
    corners = get_box_tensor(kept.bboxes).double()
    sizes = (corners[:, 2:] - corners[:, :2]).numpy().round(DECIMALS)
    corners = corners[:, :2].numpy().round(DECIMALS)
    scores = kept.scores.double().numpy().round(DECIMALS)
    annotations = []
    for i, label in enumerate(kept.labels.tolist()):
        if label >= len(categories):
            raise PseudoLabelError(
                f'the model detects class {label}, but only '
                f'{len(categories)} class names are known; give the config '
                'the classes of its data set (metainfo)')
        if (sizes[i] <= 0).any():
            continue
        annotations.append(
            dict(
                image_id=image_id,
                category_id=categories[label]['id'],
                bbox=[*corners[i].tolist(), *sizes[i].tolist()],
                area=float(sizes[i].prod().round(DECIMALS)),
                iscrowd=0,
                score=float(scores[i]),
                **_segmentation(kept, i)))
    return annotations


def _segmentation(instances: InstanceData, index: int) -> dict:
    """Run-length encoded mask of an instance, if there are masks."""
    if 'masks' not in instances:
        return {}
    mask = np.asarray(instances.masks[index])
    rle = encode_mask_results([mask])[0]
    return dict(segmentation=dict(rle, counts=rle['counts'].decode()))


class SideFile:
    """What is done so far: one line of JSON for each image.

    Args:
        path (str): The file.
        settings (dict): What the results depend on; a file made with other
            settings is refused.
    """

    def __init__(self, path: str, settings: dict) -> None:
        self.path = path
        self.settings = settings

    def open(self) -> set[str]:
        """Start the file, or go on with it behind its last whole line.

        Returns:
            set[str]: File names of the images that are done.

        Raises:
            PseudoLabelError: If it was made with other settings.
        """
        if not osp.exists(self.path):
            self._append(dict(settings=self.settings))
            return set()
        lines, end = self._whole_lines()
        theirs = lines[0].get('settings') if lines else self.settings
        if theirs != self.settings:
            raise PseudoLabelError(
                f'{self.path} holds what an earlier run made with other '
                f'settings: {_differences(theirs, self.settings)}. Use its '
                'settings to go on with it, or move it away to start anew.')
        os.truncate(self.path, end)
        if not lines:
            self._append(dict(settings=self.settings))
        return {line['image']['file_name'] for line in lines[1:]}

    def add(self, image: dict, annotations: list[dict]) -> None:
        """Keep the result of one image.

        Args:
            image (dict): Its COCO entry.
            annotations (list[dict]): From :func:`annotations_of`.
        """
        self._append(dict(image=image, annotations=annotations))

    def records(self) -> list[dict]:
        """``image`` and ``annotations`` of everything that is done."""
        return self._whole_lines()[0][1:]

    def _append(self, line: dict) -> None:
        with open(self.path, 'a') as file:
            file.write(json.dumps(line) + '\n')

    def _whole_lines(self) -> tuple[list[dict], int]:
        """The lines, and the byte where what was cut off starts."""
        lines, end = [], 0
        with open(self.path, 'rb') as file:
            for line in file:
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    break
                if not line.endswith(b'\n'):
                    lines.pop()
                    break
                end += len(line)
        return lines, end


def make_pseudo_labels(model: nn.Module,
                       pipeline: Sequence[dict],
                       unlabelled: UnlabelledImages,
                       categories: Sequence[dict],
                       out: str,
                       score_thr: float = 0.5,
                       batch_size: int = 1,
                       num_workers: int = 2,
                       settings: dict | None = None) -> Summary:
    """Detect on images and write a COCO file with ``score``.

    The file appears when all is done. Until then the results are in
    ``out + '.partial'``, and the same call goes on from there.

    Args:
        model (nn.Module): A detector of mmdet, in evaluation mode.
        pipeline (Sequence[dict]): Its test pipeline.
        unlabelled (UnlabelledImages): The images.
        categories (Sequence[dict]): See :func:`category_block`.
        out (str): The file to write.
        score_thr (float): Smallest score that is kept. Defaults to 0.5.
        batch_size (int): Images detected on at once. Defaults to 1.
        num_workers (int): Processes that load images. Defaults to 2.
        settings (dict, optional): What else the results depend on, such as
            the checkpoint, to be written into the file.

    Returns:
        Summary: What was written.

    Raises:
        PseudoLabelError: If ``out`` exists, or earlier results do not fit.
        ImageReadError: If an image cannot be read.
    """
    check_target(out)
    settings = dict(
        settings or {},
        score_thr=score_thr,
        folder=osp.abspath(unlabelled.folder),
        categories=[category['name'] for category in categories])
    side_file = SideFile(f'{out}.partial', settings)
    done = side_file.open()
    images = [i for i in unlabelled.images if i['file_name'] not in done]
    if done:
        print_log(f'{len(done)} of {len(unlabelled.images)} images are done '
                  f'already, see {side_file.path}', 'current')
    loader = DataLoader(
        _Images(unlabelled.folder, images, pipeline),
        batch_size=batch_size,
        num_workers=num_workers,
        collate_fn=pseudo_collate)
    progress = ProgressBar(len(images), file=sys.stdout)
    for image, sample in zip(images, _detect(model, loader)):
        height, width = sample.ori_shape
        side_file.add(
            dict(image, height=height, width=width),
            annotations_of(sample.pred_instances, image['id'], categories,
                           score_thr))
        progress.update()
    print()
    summary = _write(out, side_file, unlabelled.images, categories)
    os.remove(side_file.path)
    return summary


def check_target(out: str) -> None:
    """Refuse a place to write to before any work is done.

    Args:
        out (str): The file to be written.

    Raises:
        PseudoLabelError: If it exists, or its folder does not.
    """
    if osp.exists(out):
        raise PseudoLabelError(
            f'{out} exists already; move it away or give another name')
    folder = osp.dirname(osp.abspath(out))
    if not osp.isdir(folder):
        raise PseudoLabelError(
            f'{out}: the folder {folder} does not exist; make it first')


class _Images(Dataset):
    """The images, loaded by a test pipeline."""

    def __init__(self, folder: str, images: list[dict],
                 pipeline: Sequence[dict]) -> None:
        self.folder = folder
        self.images = images
        self.pipeline = Compose(pipeline)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        image = self.images[index]
        path = osp.join(self.folder, image['file_name'])
        # no instances: for LoadAnnotations, which test pipelines have
        results = dict(img_path=path, img_id=image['id'], instances=[])
        try:
            return self.pipeline(results)
        except ImageReadError:
            raise
        except Exception as error:  # mmcv's reader does not name the file
            raise ImageReadError(
                f'image {path}: {type(error).__name__}: {error}') from error


@torch.no_grad()
def _detect(model: nn.Module, loader: DataLoader) -> Iterator[DetDataSample]:
    """Detections of one image after another."""
    for batch in loader:
        yield from model.test_step(batch)


def _write(out: str, side_file: SideFile, images: Sequence[dict],
           categories: Sequence[dict]) -> Summary:
    """Put the results together; afterwards the file is whole, or not there."""
    by_name = {r['image']['file_name']: r for r in side_file.records()}
    records = [by_name[image['file_name']] for image in images]
    annotations = [
        dict(id=i, **annotation) for i, annotation in enumerate(
            (a for record in records for a in record['annotations']), 1)
    ]
    content = dict(
        info=dict(
            description='Pseudo labels: detections taken as annotations',
            **side_file.settings),
        images=[record['image'] for record in records],
        annotations=annotations,
        categories=list(categories))
    _write_whole(out, content)
    labelled = sum(bool(record['annotations']) for record in records)
    return Summary(len(records), labelled, len(annotations))


def _write_whole(out: str, content: dict) -> None:
    handle, scratch = tempfile.mkstemp(
        dir=osp.dirname(osp.abspath(out)), prefix=f'.{osp.basename(out)}.')
    try:
        with os.fdopen(handle, 'w') as file:
            json.dump(content, file)
        os.chmod(scratch, 0o644)
        os.replace(scratch, out)
    except BaseException:
        os.remove(scratch)
        raise


def _differences(theirs: dict | None, ours: dict) -> str:
    theirs = theirs or {}
    changed = sorted(key for key in {*theirs, *ours}
                     if theirs.get(key) != ours.get(key))
    return ', '.join(f'{key} was {theirs.get(key)!r}, is {ours.get(key)!r}'
                     for key in changed)
