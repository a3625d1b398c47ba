"""Cross-entropy: of all labels, weighted by class, focal, of the hardest pixels, and more near boundaries."""

from math import ceil, inf, log

import torch
import torch.nn.functional as F
from torch import Tensor

from ripu_lightning.errors import require_integer, require_number
from ripu_lightning.losses.functional.inputs import IGNORE, check_labels, check_logits, labelled_pixels, promote

SURE = 1e-6
"""Least distance of a probability from 1 in the focal factor, whose slope at 0 may be infinite."""


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    over: Tensor | None = None,
    weights: Tensor | None = None,
    focal: float = 0.0,
) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored; 0 where all are.

    Args:
        logits: ``(B, C, H, W)``, floating point.
        labels: ``(B, H, W)`` uint8 or int64: ``0..C-1``, 255 ignored.
        over: ``(B, H, W)`` bool, other pixels to average over: ignored ones among them count as 0, so that the loss
            grows with the share of pixels that have a label.
        weights: ``(C,)``, of each class, 0 or more; the mean is weighted by them, as torch's. An ignored pixel of
            ``over`` has weight 1.
        focal: exponent γ of the factor ``(1 - p)^γ`` with the probability p of the label, 0 or more; the factor does
            not change by how much the sum is divided (Lin et al., ICCV 2017).

    >>> logits = torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1).expand(1, 2, 1, 2)
    >>> round(cross_entropy(logits, torch.tensor([[[0, 255]]])).item(), 4)
    0.1269
    """
    check_logits(logits)
    check_labels(logits, labels)
    require_number("cross_entropy", "focal", focal)
    counted = labels != IGNORE if over is None else over
    if weights is None and not focal:
        total = F.cross_entropy(promote(logits), labels.long(), ignore_index=IGNORE, reduction="sum")
        return total / counted.sum().clamp(min=1)
    losses = F.cross_entropy(promote(logits), labels.long(), ignore_index=IGNORE, reduction="none")
    if focal:
        losses = losses * (1 - (-losses).exp()).clamp(min=SURE) ** focal
    return _weighted_mean(losses, counted, _pixel_weights(logits, labels, weights))


def ohem_cross_entropy(logits: Tensor, labels: Tensor, share: float = 0.1, threshold: float = 0.7) -> Tensor:
    """Mean cross-entropy over the hardest labelled pixels of the batch (online hard example mining).

    These are the pixels whose label has a probability below the threshold, and at least a share of all (Shrivastava et
    al., CVPR 2016; for segmentation Wu et al., 2016, arXiv 1605.06885).

    Args:
        logits: ``(B, C, H, W)``, floating point.
        labels: ``(B, H, W)`` uint8 or int64: ``0..C-1``, 255 ignored.
        share: of the labelled pixels, in ``(0, 1]``.
        threshold: in ``[0, 1]``; with 0 the share alone decides.

    >>> logits = torch.tensor([[2.0, 9.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)
    >>> round(ohem_cross_entropy(logits, torch.tensor([[[0, 0]]]), share=0.5).item(), 4)
    0.1269
    """
    require_number("ohem_cross_entropy", "share", share, above=True, most=1)
    require_number("ohem_cross_entropy", "threshold", threshold, most=1)
    pixels, truth = labelled_pixels(logits, labels)
    if not len(truth):
        return pixels.sum()
    losses = F.cross_entropy(pixels, truth, reduction="none")
    hard = int((losses > (-log(threshold) if threshold else inf)).sum())
    return losses.topk(max(ceil(share * len(truth)), hard)).values.mean()


def boundary_cross_entropy(logits: Tensor, labels: Tensor, radius: int = 2, factor: float = 4.0) -> Tensor:
    """Mean cross-entropy in which the pixels :func:`near_boundary` weigh ``factor``, the others 1.

    A map of weights as in U-Net (Ronneberger et al., MICCAI 2015), in two steps.

    Args:
        logits: ``(B, C, H, W)``, floating point.
        labels: ``(B, H, W)`` uint8 or int64: ``0..C-1``, 255 ignored.
        radius: in pixels, 1 or more.
        factor: 0 or more.

    >>> logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]).reshape(1, 2, 1, 3)
    >>> round(boundary_cross_entropy(logits, torch.tensor([[[0, 0, 1]]]), radius=1).item(), 4)
    0.6302
    """
    check_logits(logits)
    check_labels(logits, labels)
    require_number("boundary_cross_entropy", "factor", factor)
    losses = F.cross_entropy(promote(logits), labels.long(), ignore_index=IGNORE, reduction="none")
    weights = 1 + (factor - 1) * near_boundary(labels, radius).to(losses.dtype)
    return _weighted_mean(losses, labels != IGNORE, weights)


def near_boundary(labels: Tensor, radius: int = 1) -> Tensor:
    """``(B, H, W)`` bool: the labelled pixels with another class in the square of this radius around them.

    Args:
        labels: ``(B, H, W)`` uint8 or int64, 255 ignored.
        radius: in pixels, 1 or more.

    >>> near_boundary(torch.tensor([[[0, 0, 0, 1, 255, 2]]]), radius=2).int().tolist()
    [[[0, 1, 1, 1, 0, 1]]]
    """
    require_integer("near_boundary", "radius", radius, least=1)
    known = labels != IGNORE
    classes = labels.float()
    side, pad = 2 * radius + 1, radius
    highest = F.max_pool2d(classes.masked_fill(~known, 0), side, stride=1, padding=pad)
    lowest = -F.max_pool2d(-classes, side, stride=1, padding=pad)  # 255 is above all classes
    return known & (highest != lowest)


def balanced_weights(counts: Tensor) -> Tensor:
    """``1 / log(1.02 + share)`` of each class, divided by the mean over the classes that occur (ENet).

    Paszke et al. (2016, arXiv 1606.02147). Without any labels all weights are equal.

    Args:
        counts: ``(C,)`` labels of each class.

    >>> balanced_weights(torch.tensor([90, 10, 0])).tolist()
    [0.2960, 1.7040, 9.7517]
    """
    shares = counts / counts.sum().clamp(min=1)
    weights = 1 / (1.02 + shares).log()
    present = counts > 0
    mean = (weights * present).sum() / present.sum().clamp(min=1)
    return weights / mean.where(present.any(), weights[0])


def _pixel_weights(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """``(B, H, W)``: the weight of each pixel's label, 1 where it has none."""
    if weights is None:
        return torch.ones_like(labels, dtype=promote(logits).dtype)
    if weights.shape != logits.shape[1:2]:
        raise ValueError(f"weights: expected one for each of {logits.shape[1]} classes, got {tuple(weights.shape)}")
    known = labels != IGNORE
    found = weights.to(promote(logits).dtype)[labels.long().masked_fill(~known, 0)]
    return found.masked_fill(~known, 1)


def _weighted_mean(losses: Tensor, counted: Tensor, weights: Tensor) -> Tensor:
    """The weighted sum of all losses, divided by the weights of the pixels that are counted."""
    divisor = (weights * counted).sum()
    return (weights * losses).sum() / divisor.where(divisor > 0, 1)
