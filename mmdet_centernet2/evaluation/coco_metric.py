"""COCO metric."""

from __future__ import annotations

import json
import logging
import os.path as osp
import tempfile
from collections.abc import Sequence

import numpy as np
from mmdet.datasets.api_wrappers import COCO, COCOeval, COCOevalMP
from mmdet.evaluation import CocoMetric, eval_recalls
from mmdet.registry import METRICS
from mmengine import fileio
from mmengine.logging import MMLogger, print_log
from terminaltables import AsciiTable

from mmdet_centernet2.datasets.annotation_file import AnnotationError, CheckedCOCO, has_objects

from .faster_eval import check_backend


@METRICS.register_module()
class CenterNet2CocoMetric(CocoMetric):
    """mmdet's ``CocoMetric`` with a choice of the package that evaluates.

    The figures have the same names, but are not rounded to three digits, and
    ``metric='proposal_fast'`` works on any numpy. The annotation file is read
    as :func:`read_annotations` does: ids from 0 count, classes are found by
    name. Files are written only if ``outfile_prefix`` is given.

    Args:
        ann_file: See mmdet's ``CocoMetric``.
        *args: See there.
        backend: 'pycocotools', or 'faster_coco_eval', which gives the same
            figures in a fraction of the time.
        bad_boxes: What to do with boxes that cannot be right, 'error' or
            'drop'; as in the data set.
        **kwargs: See mmdet's ``CocoMetric``.

    Raises:
        AnnotationError: If the annotation file is at fault, or has no object
            to evaluate with.
        ValueError: If the backend is unknown, or ``use_mp_eval`` is set with
            'faster_coco_eval'.
        KeyError: If ``metric`` or one of ``metric_items`` is unknown.
        ImportError: If the backend's package is not installed.
    """

    #: Names of the figures, in the order of ``COCOeval.stats``.
    ITEMS: tuple[str, ...] = (
        'mAP',
        'mAP_50',
        'mAP_75',
        'mAP_s',
        'mAP_m',
        'mAP_l',
        'AR@100',
        'AR@300',
        'AR@1000',
        'AR_s@1000',
        'AR_m@1000',
        'AR_l@1000',
    )

    def __init__(
        self,
        ann_file: str | None = None,
        *args,
        backend: str = 'pycocotools',
        bad_boxes: str = 'error',
        **kwargs,
    ) -> None:
        check_backend(backend)
        self.backend = backend
        super().__init__(None, *args, **kwargs)
        for item in self.metric_items or ():
            if item not in self.ITEMS:
                raise KeyError(f'metric item "{item}" is not supported, only {self.ITEMS}')
        if self.use_mp_eval and backend != 'pycocotools':
            raise ValueError(
                'use_mp_eval=True is for '
                f"backend='pycocotools', not {backend!r}, which "
                'needs no further processes'
            )
        if ann_file is None:
            return
        with fileio.get_local_path(ann_file, backend_args=self.backend_args) as path:
            self._coco_api = self._read(
                path,
                name=ann_file,
                bad_boxes=bad_boxes,
                masks='segm' in self.metrics,
                config_key='the evaluator',
            )
        if not self.format_only and not has_objects(self._coco_api.dataset):
            raise AnnotationError(
                f'{ann_file}: no object to evaluate with; for a test set '
                'without annotations, set format_only=True and '
                'outfile_prefix'
            )

    def _read(self, path: str, **kwargs) -> COCO:
        return CheckedCOCO(path, **kwargs)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Evaluate all detections.

        Args:
            results: What ``process`` collected.

        Returns:
            See mmdet's ``CocoMetric``; not rounded. Empty if there is no
            detection at all.

        Raises:
            KeyError: If 'segm' is asked for and there are no masks.
        """
        logger = MMLogger.get_current_instance()
        truths, preds = zip(*results)
        if self._coco_api is None:
            with tempfile.TemporaryDirectory() as folder:
                self._coco_api = COCO(
                    self.gt_to_coco_json(truths, self.outfile_prefix or osp.join(folder, 'gt'))
                )
        self.cat_ids = self._ids_of_labels()
        self.img_ids = self._coco_api.get_img_ids()
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
            detections = self._detections(preds, metric == 'segm')
            if not detections:
                logger.error('The testing results of the whole dataset is empty.')
                break
            figures.update(self._evaluate(detections, metric))
        return figures

    def _ids_of_labels(self) -> list:
        return self._coco_api.get_cat_ids(cat_names=self.dataset_meta['classes'])

    def _evaluate(self, detections: list[dict], metric: str) -> dict[str, float]:
        evaluation = COCOevalMP if self.use_mp_eval else COCOeval
        if self.backend == 'faster_coco_eval':
            from .coco_eval import FasterCOCOeval as evaluation
        if metric == 'segm':
            # with boxes, pycocotools would take their area for the mask's
            for detection in detections:
                del detection['bbox']
        done = evaluation(
            self._coco_api,
            self._coco_api.loadRes(detections),
            'bbox' if metric == 'proposal' else metric,
        )
        done.params.catIds = self.cat_ids
        done.params.imgIds = self.img_ids
        done.params.maxDets = self.proposal_nums
        done.params.iouThrs = self.iou_thrs
        done.params.useCats = int(metric != 'proposal')
        done.evaluate()
        done.accumulate()
        done.summarize()
        stats = dict(zip(self.ITEMS, done.stats.tolist()))
        if metric == 'proposal':
            return {k: stats[k] for k in self.metric_items or self.ITEMS[6:]}
        print_log(
            f'{metric}_mAP_copypaste: ' + ' '.join(f'{value:.3f}' for value in done.stats[:6]),
            'current',
        )
        figures = self._classwise(done.eval['precision'][..., -1])
        for item in self.metric_items or self.ITEMS[:6]:
            figures[f'{metric}_{item}'] = stats[item]
        return figures

    def _classwise(self, precision: np.ndarray) -> dict[str, float]:
        """AP of each class from (IoU, recall, class, area), if asked for."""
        if not self.classwise:
            return {}
        names = [self._coco_api.cats[i]['name'] for i in self.cat_ids]
        parts = [
            precision[..., 0],
            precision[:1, ..., 0],
            precision[5:6, ..., 0],
            *np.moveaxis(precision, -1, 0)[1:4],
        ]
        rows = [[name, *(_mean(part[:, :, k]) for part in parts)] for k, name in enumerate(names)]
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
        """Recall of the first detections of an image, whatever their class.

        Args:
            results: ``img_id`` and ``bboxes`` (n, 4) of each image, best
                first.
            proposal_nums: How many detections of an image count, (N,).
            iou_thrs: IoU thresholds to average over.
            logger: Not used.

        Returns:
            Share of the objects that are found, shape (N,).
        """
        found = np.zeros(len(proposal_nums))
        for result in results:
            boxes = self._boxes_of(result['img_id'])
            if len(boxes):
                # mmdet's function needs equally many objects in all images
                recalls = eval_recalls(
                    [boxes], [result['bboxes']], proposal_nums, iou_thrs, 'silent'
                )
                found += recalls.mean(axis=1) * len(boxes)
        total = sum(len(self._boxes_of(i)) for i in self.img_ids)
        return found / max(total, 1)

    def _boxes_of(self, img_id: int) -> np.ndarray:
        """Corners of an image's objects in pixels, shape (n, 4)."""
        boxes = np.array(
            [
                ann['bbox']
                for ann in self._coco_api.img_ann_map[img_id]
                if not ann.get('ignore') and not ann.get('iscrowd')
            ],
            dtype=np.float32,
        ).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes

    def _detections(self, results: Sequence[dict], masks: bool) -> list[dict]:
        """Detections as COCO writes them."""
        found = []
        for result in results:
            scores = result['scores']
            if masks:
                scores = result.get('mask_scores', scores)
            for i, label in enumerate(result['labels']):
                found.append(
                    dict(
                        image_id=result['img_id'],
                        bbox=self.xyxy2xywh(result['bboxes'][i]),
                        score=float(scores[i]),
                        category_id=self.cat_ids[label],
                    )
                )
                if masks:
                    mask = dict(result['masks'][i])
                    if isinstance(mask['counts'], bytes):
                        mask['counts'] = mask['counts'].decode()
                    found[-1]['segmentation'] = mask
        return found

    def results2json(self, results: Sequence[dict], outfile_prefix: str) -> dict[str, str]:
        """Write ``PREFIX.bbox.json`` and, with masks, ``PREFIX.segm.json``.

        Args:
            results: The detections of each image.
            outfile_prefix: Path and beginning of the names.

        Returns:
            The files by metric.
        """
        files = {}
        for kind in ('bbox', 'segm') if 'masks' in results[0] else ('bbox',):
            files[kind] = f'{outfile_prefix}.{kind}.json'
            # not mmengine.dump, which makes json use its encoder in Python
            fileio.put_text(json.dumps(self._detections(results, kind == 'segm')), files[kind])
        return dict(files, proposal=files['bbox'])

    def _warn_of_missing(self, results: Sequence[dict]) -> None:
        """Objects of images that nobody looked at count as missed."""
        total = len(self.img_ids)
        missing = total - len({result['img_id'] for result in results})
        if missing > 0:
            print_log(
                f"{missing} of the {total} images in the evaluator's "
                'ann_file were not tested: their objects count as missed',
                'current',
                logging.WARNING,
            )


def _mean(precision: np.ndarray) -> float:
    """Mean of what is known; NaN if nothing is."""
    known = precision[precision > -1]
    return float(known.mean()) if known.size else float('nan')
