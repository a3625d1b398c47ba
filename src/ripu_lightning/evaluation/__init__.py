"""Evaluation: how predictions are made and saved, the confusion matrix over a data set, and figures from it."""

from ripu_lightning.evaluation.inference import Inference
from ripu_lightning.evaluation.metric_names import metric_names
from ripu_lightning.evaluation.metrics import (
    SegmentationConfusion,
    class_accuracy,
    class_iou,
    figures,
    iou_table,
    mean_iou,
    pixel_accuracy,
)
from ripu_lightning.evaluation.protocol import protocol_of
from ripu_lightning.evaluation.sliding_window import SlidingWindow

__all__ = [
    "Inference",
    "SegmentationConfusion",
    "SlidingWindow",
    "class_accuracy",
    "class_iou",
    "figures",
    "iou_table",
    "mean_iou",
    "metric_names",
    "pixel_accuracy",
    "protocol_of",
]
