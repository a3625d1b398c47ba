"""Evaluation: one confusion matrix over the set, IoU tables, saved predictions."""

from ripu_lightning.evaluation.iou import SegmentationConfusion, class_iou, iou_table, mean_iou

__all__ = ["SegmentationConfusion", "class_iou", "iou_table", "mean_iou"]
