"""Evaluation: how predictions are made and saved, the confusion matrix over a data set, and figures from it."""

from typing import TYPE_CHECKING

from ripu_lightning.evaluation.metric_names import metric_names  # not lazily: its module has the same name
from ripu_lightning.lazy import lazy_names

if TYPE_CHECKING:
    from ripu_lightning.evaluation.inference import Inference
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

_HOMES = {
    "Inference": "inference",
    "SegmentationConfusion": "metrics",
    "SlidingWindow": "sliding_window",
    "class_accuracy": "metrics",
    "class_iou": "metrics",
    "figures": "metrics",
    "iou_table": "metrics",
    "mean_iou": "metrics",
    "pixel_accuracy": "metrics",
    "protocol_of": "protocol",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)

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
