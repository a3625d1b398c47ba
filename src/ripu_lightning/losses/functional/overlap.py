"""Losses of the overlap between a class's probabilities and its labels: Dice and Lovász-softmax."""

import torch
from torch import Tensor

from ripu_lightning.losses.functional.inputs import labelled_pixels


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """One minus the Dice coefficient ``2 Σpg / (Σp² + Σg²)``, averaged over the classes among the labels.

    Milletari et al. (3DV 2016), for more than two classes; the sums are over the labelled pixels of the batch.

    Args:
        logits: ``(B, C, H, W)``, floating point.
        labels: ``(B, H, W)`` uint8 or int64: ``0..C-1``, 255 ignored.

    >>> round(dice(torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1), torch.tensor([[[0]]])).item(), 4)
    0.0080
    """
    pixels, truth = labelled_pixels(logits, labels)
    if not len(truth):
        return pixels.sum()
    probabilities = pixels.softmax(dim=1)
    counts = torch.bincount(truth, minlength=logits.shape[1])
    hits = probabilities.gather(1, truth[:, None])[:, 0]
    shared = torch.zeros_like(probabilities[0]).index_add(0, truth, hits)
    coefficients = 2 * shared / (probabilities.square().sum(dim=0) + counts)
    return 1 - coefficients[counts > 0].mean()


def lovasz_softmax(logits: Tensor, labels: Tensor) -> Tensor:
    """The Lovász extension of one minus the IoU, averaged over the classes among the labels.

    Berman et al. (CVPR 2018), equations 8 and 9; the IoU is over the labelled pixels of the batch.

    Args:
        logits: ``(B, C, H, W)``, floating point.
        labels: ``(B, H, W)`` uint8 or int64: ``0..C-1``, 255 ignored.

    >>> round(lovasz_softmax(torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1), torch.tensor([[[0]]])).item(), 4)
    0.1192
    """
    pixels, truth = labelled_pixels(logits, labels)
    if not len(truth):
        return pixels.sum()
    probabilities = pixels.softmax(dim=1)
    present = torch.bincount(truth).nonzero().flatten().tolist()
    losses = [_lovasz_extension(probabilities[:, c], truth == c) for c in present]
    return torch.stack(losses).mean()


def _lovasz_extension(probabilities: Tensor, inside: Tensor) -> Tensor:
    """The extension for one class: its probabilities ``(N,)``, and the pixels ``(N,)`` that are of it."""
    errors, order = torch.where(inside, 1 - probabilities, probabilities).sort(descending=True, stable=True)
    inside = inside[order]
    # The IoU loss if the pixels up to this one, from the worst on, are wrong and the others right.
    wrong_inside, wrong_outside = (part.cumsum(0).to(errors.dtype) for part in (inside, ~inside))
    size = wrong_inside[-1]
    losses = 1 - (size - wrong_inside) / (size + wrong_outside)
    return (errors * losses.diff(prepend=losses.new_zeros(1))).sum()
