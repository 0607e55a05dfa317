"""COCO metric."""

from __future__ import annotations

import logging
import os.path as osp
import tempfile
from collections.abc import Sequence

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval
from mmdet.evaluation import CocoMetric, eval_recalls
from mmdet.registry import METRICS
from mmengine import fileio
from mmengine.logging import MMLogger, print_log
from pycocotools import mask as mask_utils
from terminaltables import AsciiTable

from mmdet_centernet2.datasets.annotation_file import AnnotationError, read_table

from .average_precision import Detections, Objects, precision_and_recall


@METRICS.register_module()
class CenterNet2CocoMetric(CocoMetric):
    """mmdet's ``CocoMetric``, evaluated many times as fast.

    The figures have the same names, but are not rounded to three digits, and
    ``metric='proposal_fast'`` works on any numpy. The annotation file is read
    as :func:`read_table` does: ids from 0 count, classes are found by
    name. Files are written only if ``outfile_prefix`` is given.

    Args:
        ann_file: See mmdet's ``CocoMetric``.
        *args: See there.
        bad_boxes: What to do with boxes that cannot be right, 'error' or
            'drop'; as in the data set.
        **kwargs: See mmdet's ``CocoMetric``.

    Raises:
        AnnotationError: If the annotation file is at fault, or has no object
            to evaluate with.
        KeyError: If ``metric`` or one of ``metric_items`` is unknown.
    """

    FILE_KEY = 'file_name'
    #: Names of the figures, in the order of ``COCOeval.stats``.
    ITEMS: tuple[str, ...] = (
        *('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
        *('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
    )

    def __init__(
        self, ann_file: str | None = None, *args, bad_boxes: str = 'error', **kwargs
    ) -> None:
        super().__init__(None, *args, **kwargs)
        self.bad_boxes = bad_boxes
        for item in self.metric_items or ():
            if item not in self.ITEMS:
                raise KeyError(f'metric item "{item}" is not supported, only {self.ITEMS}')
        if ann_file is None:
            return
        with fileio.get_local_path(ann_file, backend_args=self.backend_args) as path:
            self._read_truth(path, ann_file)
        truth = self._coco_api
        if not self.format_only and (truth.crowds | truth.ignored).all():
            raise AnnotationError(
                f'{ann_file}: no object to evaluate with; for a test set without annotations, '
                'set format_only=True and outfile_prefix'
            )

    def _read_truth(self, path: str, name: str) -> None:
        self._coco_api = read_table(
            path,
            name,
            bad_boxes=self.bad_boxes,
            masks='segm' in self.metrics,
            evaluation=True,
            file_key=self.FILE_KEY,
            config_key='the evaluator',
        )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Evaluate what ``process`` collected; no figures if there is no detection at all.

        Raises:
            KeyError: If 'segm' is asked for and there are no masks.
        """
        logger = MMLogger.get_current_instance()
        truths, preds = zip(*results)
        if self._coco_api is None:
            with tempfile.TemporaryDirectory() as folder:
                prefix = self.outfile_prefix or osp.join(folder, 'gt')
                self._read_truth(self.gt_to_coco_json(truths, prefix), 'the ground truth')
        self.cat_ids = self._ids_of_labels()
        self._image_index = {image['id']: i for i, image in enumerate(self._coco_api.images)}
        self._warn_of_missing(preds)
        if self.outfile_prefix:
            self.results2json(preds, self.outfile_prefix)
        figures: dict[str, float] = {}
        if self.format_only:
            logger.info(f'results are saved at {self.outfile_prefix}.*.json')
            return figures
        for metric in self.metrics:
            logger.info(f'Evaluating {metric}...')
            if metric == 'proposal_fast':
                recalls = self.fast_eval_recall(preds, self.proposal_nums, self.iou_thrs)
                for num, recall in zip(self.proposal_nums, recalls):
                    figures[f'AR@{num}'] = float(recall)
                    logger.info(f'AR@{num}\t{recall:.4f}')
                continue
            if metric == 'segm' and 'masks' not in preds[0]:
                raise KeyError('segm is not in results')
            if not any(len(result['labels']) for result in preds):
                logger.error('There is no detection at all.')
                break
            figures.update(self._evaluate(preds, metric))
        return figures

    def _ids_of_labels(self) -> list:
        names = list(self.dataset_meta['classes'])
        ids = self._coco_api.ids_of_classes(names)
        if len(ids) != len(names):
            raise ValueError(
                f"the evaluator's ann_file has only {len(ids)} of the {len(names)} classes that "
                'the data set has: labels would mean other categories; give both the same file'
            )
        return ids

    def _evaluate(self, results: Sequence[dict], metric: str) -> dict[str, float]:
        summary = COCOeval(iouType='segm' if metric == 'segm' else 'bbox')
        summary.params.maxDets, summary.params.iouThrs = sorted(self.proposal_nums), self.iou_thrs
        precision, recall = self._curves(results, metric, summary.params.maxDets)
        summary.eval = dict(params=summary.params, precision=precision, recall=recall)
        summary.summarize()
        stats = dict(zip(self.ITEMS, summary.stats.tolist()))
        if metric == 'proposal':
            return {k: stats[k] for k in self.metric_items or self.ITEMS[6:]}
        print_log(
            f'{metric}_mAP_copypaste: ' + ' '.join(f'{value:.3f}' for value in summary.stats[:6]),
            'current',
        )
        figures = self._classwise(precision[..., -1])
        for item in self.metric_items or self.ITEMS[:6]:
            figures[f'{metric}_{item}'] = stats[item]
        return figures

    def _curves(
        self, results: Sequence[dict], metric: str, max_dets: list[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Precision (T, R, K, A, M) and recall (T, K, A, M) by label."""
        masks, count = metric == 'segm', len(self.cat_ids)
        objects, detections = self._objects(masks), self._rows(results, masks)
        if metric == 'proposal':  # one category; equal scores rank by their labels
            objects = objects[np.argsort(objects.labels, kind='stable')]
            detections = detections[np.argsort(detections.labels, kind='stable')]
            objects.labels[:] = detections.labels[:] = 0
            count = 1
        return precision_and_recall(objects, detections, count, self.iou_thrs, max_dets)

    def _objects(self, masks: bool) -> Objects:
        """The ground truth of the classes."""
        truth = self._coco_api
        shapes = truth.boxes
        if masks:
            sizes = [
                (truth.images[i]['height'], truth.images[i]['width']) for i in truth.image_rows
            ]
            shapes = np.array(list(map(run_lengths, truth.masks, sizes)), object)
        labels = truth.labels(self.cat_ids)
        objects = Objects(truth.image_rows, labels, truth.areas, shapes, *self._flags())
        return objects[labels >= 0]

    def _flags(self) -> tuple[np.ndarray, np.ndarray]:
        """Which objects are crowds, and which are ignored."""
        return self._coco_api.crowds, self._coco_api.crowds

    def _rows(self, results: Sequence[dict], masks: bool) -> Detections:
        """The detections that count."""
        try:
            index = [self._image_index[result['img_id']] for result in results]
        except KeyError as error:
            raise ValueError(
                f"image id {error} was tested, but is not in the evaluator's ann_file: "
                'give the data set and the evaluator the same one'
            ) from error
        images = np.repeat(index, [len(result['labels']) for result in results])
        labels = np.concatenate([result['labels'] for result in results]).astype(int)
        key = 'mask_scores' if masks and 'mask_scores' in results[0] else 'scores'
        scores = np.concatenate([result[key] for result in results]).astype(float)
        kept, lenient = self._select(images, labels, scores)
        if masks:
            shapes = np.array([m for result in results for m in result['masks']], object)[kept]
            # pycocotools overflows at 255 square pixels if given a list
            areas = np.array([mask_utils.area(mask) for mask in shapes], float)
        else:
            shapes = np.concatenate([result['bboxes'] for result in results])[kept].astype(float)
            shapes[:, 2:] -= shapes[:, :2]
            areas = shapes[:, 2] * shapes[:, 3]
        return Detections(images[kept], labels[kept], areas, shapes, scores[kept], lenient)

    def _select(
        self, images: np.ndarray, labels: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows that count, (n,), and which of them may be unmatched, (n,)."""
        return np.arange(len(labels)), np.zeros(len(labels), bool)

    def _classwise(self, precision: np.ndarray) -> dict[str, float]:
        """AP of each class from (IoU, recall, class, area), if asked for."""
        if not self.classwise:
            return {}
        names = {c['id']: c['name'] for c in self._coco_api.categories}
        whole = precision[..., 0]
        parts = [whole, whole[:1], whole[5:6], *np.moveaxis(precision, -1, 0)[1:4]]
        rows = [
            [names[key], *(mean_of_known(part[:, :, k]) for part in parts)]
            for k, key in enumerate(self.cat_ids)
        ]
        heads = [['category', 'mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l']]
        cells = [[row[0], *(f'{value:.3f}' for value in row[1:])] for row in rows]
        print_log('\n' + AsciiTable(heads + cells).table, 'current')
        return {f'{row[0]}_precision': row[1] for row in rows}

    def fast_eval_recall(
        self,
        results: Sequence[dict],
        proposal_nums: Sequence[int],
        iou_thrs: Sequence[float],
        logger: MMLogger | None = None,
    ) -> np.ndarray:
        """Mean recall of the first ``proposal_nums`` (N,) detections of an image, (N,).

        Whatever their class. ``results`` have ``img_id`` and ``bboxes``, best first.
        """
        truth = self._coco_api
        rows = np.flatnonzero(~truth.crowds & ~truth.ignored)
        corners = truth.boxes[rows].astype(np.float32)
        corners[:, 2:] += corners[:, :2]
        order = np.argsort(truth.image_rows[rows], kind='stable')
        ends = np.bincount(truth.image_rows[rows], minlength=len(truth.images)).cumsum()
        by_image = np.split(corners[order], ends[:-1])
        found = np.zeros(len(proposal_nums))
        for result in results:
            boxes = by_image[self._image_index[result['img_id']]]
            if len(boxes):
                # mmdet's function needs equally many objects in all images
                recalls = eval_recalls(
                    [boxes], [result['bboxes']], proposal_nums, iou_thrs, 'silent'
                )
                found += recalls.mean(axis=1) * len(boxes)
        return found / max(len(rows), 1)

    def _warn_of_missing(self, results: Sequence[dict]) -> None:
        """Objects of images that nobody looked at count as missed."""
        total = len(self._image_index)
        missing = total - len({result['img_id'] for result in results})
        if missing > 0:
            print_log(
                f"{missing} of the {total} images in the evaluator's ann_file were not tested: "
                'their objects count as missed',
                'current',
                logging.WARNING,
            )


def run_lengths(mask: dict | list, size: tuple[int, int]) -> dict:
    """A polygon or run-length mask of an image (height, width) as pycocotools has it."""
    if isinstance(mask, list):
        return mask_utils.merge(mask_utils.frPyObjects(mask, *size))
    if isinstance(mask['counts'], list):
        return mask_utils.frPyObjects(mask, *size)
    return mask


def mean_of_known(precision: np.ndarray, default: float = float('nan')) -> float:
    """Mean of what is not -1, if anything."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else default
