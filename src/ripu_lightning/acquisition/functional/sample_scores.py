"""Scores of several predictions for the same pixels: dropout samples, an ensemble, the mirrored image."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ripu_lightning.acquisition.functional.logit_tiles import check_logits, empty_scores, shifted_tiles
from ripu_lightning.acquisition.functional.pixel_scores import entropy_of


@torch.no_grad()
def predictive_entropy(
    samples: Tensor | Iterable[Tensor], normalize: bool = True, *, probabilities: bool = False
) -> Tensor:
    """Entropy of the mean prediction, ``H(1/T sum_t p_t)``.

    Args:
        samples: ``(T, B, C, H, W)`` logits, or any iterable of T times ``(B, C, H, W)``, of which only the sum is kept
            in memory.
        normalize: divide by ``log C`` (range 0..1); otherwise nats.
        probabilities: the samples are probabilities: 0..1, sum 1 over the classes.

    Returns:
        ``(B, H, W)``.

    Raises:
        ValueError: no sample, samples of different shapes, or a sample that
            :func:`~ripu_lightning.acquisition.functional.entropy` would refuse.

    >>> certain = torch.tensor([20.0, -20.0]).reshape(1, 2, 1, 1)
    >>> predictive_entropy([certain, -certain]).item()
    1.0
    """
    predictive, _ = _entropies(samples, normalize, probabilities)
    return predictive


@torch.no_grad()
def bald(samples: Tensor | Iterable[Tensor], normalize: bool = True, *, probabilities: bool = False) -> Tensor:
    """Mutual information of prediction and model, ``H(1/T sum_t p_t) - 1/T sum_t H(p_t)``: where the samples disagree.

    BALD: Houlsby et al., 2011 (arXiv 1112.5745); with dropout samples: Gal et al., ICML 2017 (arXiv 1703.02910).

    Args, returns and errors as :func:`predictive_entropy`; never below 0.

    >>> certain, unsure = torch.tensor([20.0, -20.0]).reshape(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
    >>> bald([certain, -certain]).item(), bald([unsure, unsure]).item()
    (1.0, 0.0)
    """
    predictive, expected = _entropies(samples, normalize, probabilities)
    return predictive.sub_(expected).clamp_(min=0)


@torch.no_grad()
def mirror_disagreement(logits: Tensor, mirrored: Tensor, *, probabilities: bool = False) -> Tensor:
    """Jensen-Shannon divergence of the predictions for an image and for its mirror image, divided by ``log 2``.

    It is :func:`bald` of the two, from 0 (equal predictions) to 1 (disjoint predictions). ``mirrored`` is the output
    ``(B, C, H, W)`` of the network for the image flipped left to right, not flipped back.

    >>> logits = torch.tensor([[30.0, 0.0], [0.0, 30.0]]).reshape(1, 2, 1, 2)
    >>> mirror_disagreement(logits, logits.flip(-1)), mirror_disagreement(logits, logits)
    (tensor([[[0., 0.]]]), tensor([[[1., 1.]]]))
    """
    check_logits(mirrored)
    result = bald((logits, mirrored.flip(-1)), normalize=False, probabilities=probabilities)
    return result.div_(math.log(2))


def _entropies(samples: Iterable[Tensor], normalize: bool, probabilities: bool) -> tuple[Tensor, Tensor]:
    """Entropy of the mean prediction and mean entropy of the predictions, both ``(B, H, W)``."""
    if isinstance(samples, Tensor) and samples.ndim != 5:
        raise ValueError(f"expected samples (T, B, C, H, W), got shape {tuple(samples.shape)}")
    total = expected = torch.empty(0)
    count = 0
    for logits in samples:
        check_logits(logits)
        if not count:
            expected = empty_scores(logits).zero_()
            total = torch.zeros(logits.shape, dtype=expected.dtype, device=expected.device)
        if logits.shape != total.shape:
            raise ValueError(f"expected samples of shape {tuple(total.shape)}, got one of {tuple(logits.shape)}")
        for tile, values in shifted_tiles(logits, probabilities):
            images, rows = tile
            expected[tile] += entropy_of(values)
            total[images, :, rows] += values.softmax(dim=1)
        count += 1
    if not count:
        raise ValueError("expected at least one sample, got none")
    predictive = torch.empty_like(expected)
    for tile, values in shifted_tiles(total, probabilities=True, scaled=False):
        predictive[tile] = entropy_of(values)
    scale = math.log(total.shape[1]) if normalize else 1.0
    return predictive.div_(scale), expected.div_(count * scale)
