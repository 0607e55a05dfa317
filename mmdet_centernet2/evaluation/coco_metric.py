"""COCO metric."""

from __future__ import annotations

import os.path as osp
import tempfile
from collections.abc import Sequence
from typing import Any

import hotcoco
import numpy as np
from mmdet.datasets.api_wrappers import COCOeval
from mmdet.evaluation import CocoMetric, eval_recalls
from mmdet.registry import METRICS
from mmengine import fileio
from mmengine.logging import MMLogger, print_log
from pycocotools import mask as mask_utils
from terminaltables import AsciiTable

from mmdet_centernet2.datasets.annotation_file import AnnotationError, read_table


@METRICS.register_module()
class CenterNet2CocoMetric(CocoMetric):
    """mmdet's ``CocoMetric``, evaluated many times as fast by hotcoco.

    The figures have the same names, but are not rounded to three digits, and
    ``metric='proposal_fast'`` works on any numpy. The annotation file is read
    as :func:`read_table` does: ids from 0 count, classes are found by
    name. Files are written only if ``outfile_prefix`` is given.

    Args:
        bad_boxes: As in the data set, 'error' or 'drop'.
        ann_file, *args, **kwargs: See mmdet's ``CocoMetric``.

    Raises:
        AnnotationError: If the annotation file is at fault, or has no object
            to evaluate with.
        KeyError: If ``metric`` or one of ``metric_items`` is unknown.
    """

    FILE_KEY = 'file_name'
    #: Whether only the categories that were looked for in an image count there.
    FEDERATED = False
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
        if ann_file is not None:
            with fileio.get_local_path(ann_file, backend_args=self.backend_args) as path:
                self._read_truth(path, ann_file)

    def _read_truth(self, path: str, name: str) -> None:
        self._coco_api = truth = read_table(
            path,
            name,
            bad_boxes=self.bad_boxes,
            masks='segm' in self.metrics,
            evaluation=True,
            file_key=self.FILE_KEY,
        )
        if not self.format_only and (truth.crowds | truth.ignored).all():
            raise AnnotationError(
                f'{name}: no object to evaluate with; for a test set without annotations, '
                'set format_only=True and outfile_prefix'
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
        missing = len(self._image_index) - len({result['img_id'] for result in preds})
        if missing > 0:
            logger.warning(
                f"{missing} of the {len(self._image_index)} images in the evaluator's ann_file "
                'were not tested: their objects count as missed'
            )
        if self.outfile_prefix:
            self.results2json(preds, self.outfile_prefix)
        figures: dict[str, float] = {}
        if self.format_only:
            logger.info(f'results are saved at {self.outfile_prefix}.*.json')
            return figures
        for metric in self.metrics:
            logger.info(f'Evaluating {metric}...')
            if metric == 'proposal_fast':
                figures.update(self._recalls(preds))
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
        """Precision (T, R, K, A, M) and recall (T, K, A, M) by label, as pycocotools has them."""
        masks, table = metric == 'segm', self._coco_api
        labels = table.labels(self.cat_ids)
        rows = np.flatnonzero(labels >= 0)
        areas, crowds = table.areas, table.crowds
        if self.FEDERATED:  # there are no crowds; what is outside of all area ranges is ignored
            areas, crowds = np.where(table.ignored, 1e11, areas), np.zeros_like(crowds)
        truth = hotcoco.COCO.from_arrays(
            self._images(),
            [dict(id=label, name=str(label)) for label in range(len(self.cat_ids))],
            table.image_rows[rows],
            labels[rows],
            table.boxes[rows],
            area=areas[rows],
            iscrowd=crowds[rows].astype(int),
            segmentation=[table.masks[row] for row in rows] if masks else None,
        )
        evaluation = hotcoco.COCOeval(
            truth,
            self._detections(truth, results, masks),
            'segm' if masks else 'bbox',
            lvis_style=self.FEDERATED,
        )
        params = evaluation.params
        params.iou_thrs, params.max_dets = list(self.iou_thrs), max_dets
        params.use_cats = metric != 'proposal'
        evaluation.evaluate()
        evaluation.accumulate()
        curves: Any = evaluation.eval
        return curves['precision'], curves['recall']

    def _images(self) -> list[dict]:
        return [
            dict(id=row, file_name='', height=image['height'], width=image['width'])
            for row, image in enumerate(self._coco_api.images)
        ]

    def _detections(
        self, truth: hotcoco.COCO, results: Sequence[dict], masks: bool
    ) -> hotcoco.COCO:
        try:
            index = [self._image_index[result['img_id']] for result in results]
        except KeyError as error:
            raise ValueError(
                f"image id {error} was tested, but is not in the evaluator's ann_file: "
                'give the data set and the evaluator the same one'
            ) from error
        key = 'mask_scores' if masks and 'mask_scores' in results[0] else 'scores'
        boxes, scores, labels = (
            np.concatenate([result[k] for result in results]) for k in ('bboxes', key, 'labels')
        )
        boxes = boxes.astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        images = np.repeat(index, [len(result['labels']) for result in results])
        rows = np.column_stack([images, boxes, scores, labels])
        if not masks:
            return truth.load_res(rows)
        shapes = [mask for result in results for mask in result['masks']]
        found = truth.load_res(rows, segmentation=shapes)
        # not those of the boxes; pycocotools overflows at 255 square pixels if given a list
        areas = [float(mask_utils.area(mask)) for mask in shapes]
        found.update_anns(ids=np.arange(1, len(rows) + 1), area=areas)
        return found

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

    def _recalls(self, results: Sequence[dict]) -> dict[str, float]:
        """Mean recall of an image's first ``proposal_nums`` detections, whatever their class."""
        truth = self._coco_api
        rows = np.flatnonzero(~truth.crowds & ~truth.ignored)
        corners = truth.boxes[rows].astype(np.float32)
        corners[:, 2:] += corners[:, :2]
        order = np.argsort(truth.image_rows[rows], kind='stable')
        ends = np.bincount(truth.image_rows[rows], minlength=len(truth.images)).cumsum()
        by_image = np.split(corners[order], ends[:-1])
        found = np.zeros(len(self.proposal_nums))
        for result in results:
            boxes = by_image[self._image_index[result['img_id']]]
            if len(boxes):
                # mmdet's function needs equally many objects in all images
                recalls = eval_recalls(
                    [boxes], [result['bboxes']], self.proposal_nums, self.iou_thrs, 'silent'
                )
                found += recalls.mean(axis=1) * len(boxes)
        recalls = dict(zip(self.proposal_nums, (found / max(len(rows), 1)).tolist()))
        print_log(f'recall: {recalls}', 'current')
        return {f'AR@{num}': recall for num, recall in recalls.items()}


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
