"""The regularisers of Xie et al. (CVPR 2022): local consistency and negative learning."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ripu_lightning.errors import require_choice, require_number
from ripu_lightning.losses.functional.inputs import IGNORE, check_labels, check_logits, promote

EPSILON = 1e-6  # inside logarithms, as in the public implementation

Norm = Literal["l1", "kl"]
Boundary = Literal["clean", "official", "everywhere"]


def local_consistency(logits: Tensor, labels: Tensor, norm: Norm = "l1", boundary: Boundary = "clean") -> Tensor:
    """How far each pixel's prediction is from the mean of its 3×3 square, averaged over boundary pixels.

    The source-domain regulariser of Xie et al. (CVPR 2022).

    Args:
        logits: ``(B, C, H, W)``, floating point.
        labels: ``(B, H, W)`` uint8 or int64, 255 ignored; only the boundaries matter.
        norm: ``"l1"``, the sum over classes of absolute differences, or ``"kl"``, the divergence from the mean.
        boundary: the pixels that count. ``"clean"``: those with an 8-neighbour of another class; ``"official"``: those
            where the Laplacian of the label map is not 0, as in the public code; ``"everywhere"``: all, as in the
            paper.

    >>> logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])
    >>> labels = torch.tensor([[[0, 1]]])
    >>> round(local_consistency(logits, labels).item(), 4)
    0.6667
    """
    check_logits(logits)
    check_labels(logits, labels)
    require_choice("local_consistency", "norm", norm, get_args(Norm))
    probabilities = promote(logits).softmax(dim=1)
    means = F.avg_pool2d(F.pad(probabilities, (1, 1, 1, 1), mode="replicate"), kernel_size=3, stride=1)
    if norm == "l1":
        distance = (probabilities - means).abs().sum(dim=1)
    else:
        distance = (probabilities * (probabilities / (means + EPSILON) + EPSILON).log()).sum(dim=1)
    mask = boundary_mask(labels, boundary)
    return (distance * mask).sum() / mask.sum().clamp(min=1)


def negative_learning(logits: Tensor, threshold: float = 0.05) -> Tensor:
    """Reduce the probabilities that are small already: the mean of ``-log(1 - p)`` over ``p < threshold``.

    The target-domain regulariser of Xie et al. (CVPR 2022); the choice of (pixel, class) pairs carries no gradient.

    Args:
        logits: ``(B, C, H, W)``, floating point.
        threshold: in ``[0, 1]``.

    >>> round(negative_learning(torch.tensor([4.0, 0.0]).reshape(1, 2, 1, 1)).item(), 4)
    0.0181
    """
    check_logits(logits)
    require_number("negative_learning", "threshold", threshold, most=1)
    probabilities = promote(logits).softmax(dim=1)
    large = probabilities.detach() >= threshold
    # The logarithm of 1 is 0: to fill the other entries in place takes two thirds of the time of a masked sum.
    others = (1 - probabilities).add_(EPSILON).masked_fill_(large, 1)
    return -others.log().sum() / (~large).sum().clamp(min=1)


def boundary_mask(labels: Tensor, boundary: Boundary = "clean") -> Tensor:
    """``(B, H, W)`` bool: the pixels that count as boundary, see :func:`local_consistency`.

    >>> boundary_mask(torch.tensor([[[0, 0, 1, 255, 2]]])).int().tolist()
    [[[0, 1, 1, 0, 0]]]
    """
    require_choice("local_consistency", "boundary", boundary, get_args(Boundary))
    if boundary == "everywhere":
        return torch.ones_like(labels, dtype=torch.bool)
    centre = labels.long()
    if boundary == "official":
        different = sum(_neighbours(centre, padding=0)) != 8 * centre
    else:
        different = torch.zeros_like(centre, dtype=torch.bool)
        for neighbour in _neighbours(centre, padding=IGNORE):
            different |= (neighbour != centre) & (neighbour != IGNORE)
    return different & (centre != IGNORE)


def _neighbours(labels: Tensor, padding: int) -> list[Tensor]:
    """The 8 neighbours of every pixel, each as a ``(B, H, W)`` view of the padded map."""
    height, width = labels.shape[-2:]
    padded = F.pad(labels, (1, 1, 1, 1), value=padding)
    offsets = [(row, column) for row in range(3) for column in range(3) if (row, column) != (1, 1)]
    return [padded[..., row : row + height, column : column + width] for row, column in offsets]
