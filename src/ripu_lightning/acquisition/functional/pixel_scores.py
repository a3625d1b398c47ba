"""Scores of single pixels: how uncertain the network is there."""

import math

import torch
from torch import Tensor

from ripu_lightning.acquisition.functional.logit_tiles import check_logits, empty_scores, shifted_tiles

PUBLIC_EPS = 1e-6
"""The constant that the code of RIPU's authors adds inside logarithms; pass it as ``eps`` to reproduce it."""


@torch.no_grad()
def entropy(logits: Tensor, normalize: bool = True, eps: float = 0.0, *, probabilities: bool = False) -> Tensor:
    """Entropy of the predicted class distribution, ``H = -sum_c p_c log(p_c + eps)``.

    Args:
        logits: ``(B, C, H, W)``, any floating dtype, finite.
        normalize: divide by ``log C``, so that the range is 0..1; otherwise nats.
        eps: added inside the logarithm; 0 is exact, :data:`PUBLIC_EPS` matches the code of RIPU's authors.
        probabilities: ``logits`` are probabilities: 0..1, sum 1 over the classes.

    Returns:
        ``(B, H, W)``.

    Raises:
        ValueError: not a ``(B, C, H, W)`` floating tensor, empty, fewer than two classes, NaN or infinite logits,
            or probabilities that are negative or off from a sum of 1 by more than 1e-3.

    >>> entropy(torch.tensor([0.0, 0.0]).reshape(1, 2, 1, 1)).item()
    1.0
    """
    check_logits(logits)
    result = empty_scores(logits)
    for tile, values in shifted_tiles(logits, probabilities):
        result[tile] = entropy_of(values, eps)
    return result.div_(math.log(logits.shape[1])) if normalize else result


@torch.no_grad()
def least_confidence(logits: Tensor, normalize: bool = True, *, probabilities: bool = False) -> Tensor:
    """One minus the probability of the predicted class, ``1 - p_1``.

    ``normalize`` divides by its largest value ``1 - 1/C`` (range 0..1). Args, returns and errors as :func:`entropy`.

    >>> least_confidence(torch.tensor([0.8, 0.2]).reshape(1, 2, 1, 1), probabilities=True).item()
    0.4
    """
    check_logits(logits)
    result = empty_scores(logits)
    for tile, values in shifted_tiles(logits, probabilities):
        result[tile] = 1 - values.exp_().sum(dim=1).reciprocal_()
    return result.div_(1 - 1 / logits.shape[1]) if normalize else result


@torch.no_grad()
def margin(logits: Tensor, *, probabilities: bool = False) -> Tensor:
    """One minus the lead of the best class over the second best, ``1 - (p_1 - p_2)``, range 0..1.

    PixelPick (Shin et al., ICCV Workshops 2021, arXiv 2104.06394) queries the pixels with the smallest lead.

    Args, returns and errors as :func:`entropy`.

    >>> margin(torch.tensor([0.6, 0.3, 0.1]).reshape(1, 3, 1, 1), probabilities=True).item()
    0.7
    """
    check_logits(logits)
    result = empty_scores(logits)
    for tile, values in shifted_tiles(logits, probabilities):
        lead = 1 - _second(values).exp_()
        result[tile] = 1 - lead / values.exp_().sum(dim=1)
    return result


@torch.no_grad()
def best_versus_second_best(logits: Tensor, *, probabilities: bool = False) -> Tensor:
    """The second best class relative to the best, ``p_2 / p_1 = exp(l_2 - l_1)``, range 0..1.

    Used for regions by Cai et al. (CVPR 2021) and MulActSeg (Hwang et al., NeurIPS 2023).

    Args, returns and errors as :func:`entropy`.

    >>> best_versus_second_best(torch.tensor([0.6, 0.3, 0.1]).reshape(1, 3, 1, 1), probabilities=True).item()
    0.5
    """
    check_logits(logits)
    result = empty_scores(logits)
    for tile, values in shifted_tiles(logits, probabilities):
        result[tile] = _second(values).exp_()
    return result


def entropy_of(values: Tensor, eps: float = 0.0) -> Tensor:
    """Entropy in nats of logits shifted to a maximum of 0, ``(b, C, h, W)`` -> ``(b, h, W)``."""
    weights = values.exp()
    total = weights.sum(dim=1)
    if eps:
        weights /= total.unsqueeze(1)
        return -weights.mul_((weights + eps).log_()).sum(dim=1)
    # log sum_c e^x - sum_c p_c x needs one logarithm a pixel, not one a class.
    return (total.log() - weights.mul_(values).sum(dim=1).div_(total)).clamp_(min=0)


def _second(values: Tensor) -> Tensor:
    """The second largest of the classes, ``(b, C, h, W)`` -> ``(b, h, W)``; ties count twice."""
    first, *rest = values.unbind(dim=1)
    second = torch.full_like(first, -torch.inf)
    for plane in rest:  # topk over the classes is ten times slower
        second = torch.maximum(second, torch.minimum(first, plane))
        first = torch.maximum(first, plane)
    return second
