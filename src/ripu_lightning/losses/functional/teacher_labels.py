"""Labels from a teacher's predictions: confident ones, and those that queried labels confirm."""

import torch
from torch import Tensor

from ripu_lightning.connected_segments import connected_segments
from ripu_lightning.errors import require_number
from ripu_lightning.losses.functional.inputs import IGNORE, check_logits, promote


def pseudo_labels(logits: Tensor, threshold: float = 0.968) -> Tensor:
    """The predicted class where its probability is above the threshold, else 255.

    The threshold is that of DACS (Tranheden et al., WACV 2021) and DAFormer (Hoyer et al., CVPR 2022).

    Args:
        logits: ``(B, C, H, W)``, floating point.
        threshold: in ``[0, 1]``.

    Returns:
        ``(B, H, W)`` int64, without gradient.

    >>> import torch
    >>> pseudo_labels(torch.tensor([[5.0, 3.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)).tolist()
    [[[0, 255]]]
    """
    check_logits(logits)
    require_number("pseudo_labels", "threshold", threshold, most=1)
    confidence, classes = promote(logits.detach()).softmax(dim=1).max(dim=1)
    return classes.masked_fill(confidence <= threshold, IGNORE)


def adapted_thresholds(level: Tensor, shares: Tensor) -> Tensor:
    """A threshold for each class, lower for those that the teacher predicts with lower probabilities.

    The thresholds of FreeMatch (Wang et al., ICLR 2023, eq. 7): the largest share gets ``level``, the others less in
    proportion.

    Args:
        level: scalar, the teacher's mean confidence over the steps.
        shares: ``(C,)``, the mean probability of each class over the steps.

    >>> adapted_thresholds(torch.tensor(0.8), torch.tensor([0.6, 0.3])).tolist()
    [0.800000011920929, 0.4000000059604645]
    """
    return level * shares / shares.max()


def segment_evidence(classes: Tensor, labels: Tensor, ratio: float = 4.0) -> tuple[Tensor, Tensor]:
    """What the labels inside each predicted segment, a connected area of one predicted class, say about it.

    Args:
        classes: ``(B, H, W)`` int64, predicted.
        labels: ``(B, H, W)`` uint8 or int64, 255 where a pixel has no label.
        ratio: as many labels of its class, for each label of another one, confirm a segment.

    Returns:
        ``(B, H, W)`` bool each: pixels of segments that are confirmed, and of those in which most labels are of
        other classes. Segments without labels are neither.

    >>> classes, labels = torch.tensor([[[0, 0, 1, 1, 0]]]), torch.tensor([[[0, 255, 0, 255, 255]]])
    >>> [each.int().tolist() for each in segment_evidence(classes, labels)]
    [[[[1, 1, 0, 0, 0]]], [[[0, 0, 1, 1, 0]]]]
    """
    segments = [connected_segments(each) for each in classes]
    offsets = torch.tensor([0, *(int(each.max()) + 1 for each in segments)]).cumsum(0)
    numbers = torch.stack([each + int(offset) for each, offset in zip(segments, offsets, strict=False)])
    known = labels != IGNORE
    agrees = known & (labels == classes)
    count = int(offsets[-1])
    right = torch.bincount(numbers[agrees], minlength=count)
    wrong = torch.bincount(numbers[known & ~agrees], minlength=count)
    return ((right > 0) & (right >= ratio * wrong))[numbers], (wrong > right)[numbers]
