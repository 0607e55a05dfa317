"""Run an exported model without torch and mmdet.

This folder imports nothing of the package around it, only numpy, OpenCV,
Pillow, tqdm and onnxruntime (or openvino; pycocotools to write masks). A
device needs no more than this folder, under any name, and the model's file.

    detector = Detector('model.onnx')
    found = detector('street.jpg')
    found.bboxes, found.scores, found.labels
"""

from .backends import BACKENDS, open_session
from .detections import Detections
from .detector import Detector
from .errors import DeployedModelError, ImageError, ModelFileError
from .model_info import KEY, SCHEMA, ModelInfo, ResizeInfo

__all__ = [
    'BACKENDS',
    'DeployedModelError',
    'Detections',
    'Detector',
    'ImageError',
    'KEY',
    'ModelFileError',
    'ModelInfo',
    'ResizeInfo',
    'SCHEMA',
    'open_session',
]
