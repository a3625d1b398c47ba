"""Intersection over union and accuracies from one confusion matrix over a data set."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ripu_lightning.data.dataset import IGNORE


class SegmentationConfusion(MulticlassConfusionMatrix):
    """Counts of (truth, prediction) over a data set, summed over all ranks; 255 in the truth is not counted."""

    def __init__(self, num_classes: int) -> None:
        # Argument checks cost seven times the counting on a 1024x2048 image.
        super().__init__(num_classes, ignore_index=IGNORE, validate_args=False)

    def add(self, predicted: Tensor, truth: Tensor) -> None:
        """Count one image: ``(H, W)`` class indices against ``(H, W)`` uint8 truth."""
        self.update(predicted.unsqueeze(0), truth.long().unsqueeze(0))  # uint8 products would overflow


def class_iou(confusion: Tensor) -> Tensor:
    """Per-class IoU ``(C,)`` in 0..1 from counts ``(C, C)`` of (truth, prediction); NaN for a class without truth.

    Which classes count depends on the data alone: if a class without truth counted as 0 where a network predicts it,
    means of two networks on the same data would be over different classes.

    >>> import torch
    >>> class_iou(torch.tensor([[3, 1, 0], [0, 3, 1], [0, 0, 0]]))
    tensor([0.7500, 0.6000,    nan], dtype=torch.float64)
    """
    counts = confusion.double()
    hit, truth = counts.diagonal(), counts.sum(1)
    return (hit / (counts.sum(0) + truth - hit)).where(truth > 0, float("nan"))


def mean_iou(confusion: Tensor) -> float:
    """Mean of :func:`class_iou` over the classes that occur in the truth; NaN if none does."""
    return float(class_iou(confusion).nanmean())


def iou_table(confusion: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Per-class IoU by class name, in the order of ``classes``."""
    return dict(zip(classes, class_iou(confusion).tolist(), strict=True))


def pixel_accuracy(confusion: Tensor) -> float:
    """Share of the counted pixels whose class is correct; NaN where none is counted."""
    counts = confusion.double()
    return float(counts.trace() / counts.sum())


def class_accuracy(confusion: Tensor) -> float:
    """Mean recall over the classes in the truth; NaN without any.

    >>> import torch
    >>> class_accuracy(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    0.875
    """
    counts = confusion.double()
    return float((counts.diagonal() / counts.sum(1)).nanmean())


def figures(confusion: Tensor, classes: Sequence[str], subsets: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """All that evaluation reports, in 0..1, by name.

    Args:
        confusion: ``(C, C)`` counts of (truth, prediction).
        classes: class names.
        subsets: further means, each over the IoU of some of the classes, as in the 13-class protocol of SYNTHIA.

    Returns:
        ``miou``, ``miou_SUBSET`` for each subset, ``pixel_accuracy``, ``class_accuracy`` and ``iou/CLASS``.
    """
    iou = class_iou(confusion)
    means = {
        f"miou_{name}": float(iou[[classes.index(each) for each in members]].nanmean())
        for name, members in subsets.items()
    }
    accuracies = {"pixel_accuracy": pixel_accuracy(confusion), "class_accuracy": class_accuracy(confusion)}
    by_class = {f"iou/{name}": value for name, value in iou_table(confusion, classes).items()}
    return {"miou": mean_iou(confusion), **means, **accuracies, **by_class}
