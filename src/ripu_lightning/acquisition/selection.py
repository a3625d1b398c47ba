"""Selection: from a score map to the pixels that are asked, greedily and with exclusion, exactly and fast."""

from typing import NamedTuple

import torch
from torch import Tensor


class Selection(NamedTuple):
    """What one image is asked in one round.

    Attributes:
        centres: ``(n, 2)`` int64, (row, column), in order of picking.
        scores: ``(n,)``, the scores of the centres; never increasing.
        available: ``(H, W)`` bool, what may still be picked afterwards.
        region: ``(H, W)`` bool, the pixels that are asked.
    """

    centres: Tensor
    scores: Tensor
    available: Tensor
    region: Tensor


def select(scores: Tensor, available: Tensor, count: int, radius: int = 1, exclusion: int = 2) -> Selection:
    """Pick ``count`` centres greedily: the best available pixel, block its surroundings, repeat.

    The picks are those of the plain loop of full-map argmaxes, equal scores going to the first in row-major
    order, but the map is read only once: a pick blocks at most ``(2*exclusion+1)^2`` pixels, so the ``count``
    times as many best pixels always hold the answer.

    Args:
        scores: ``(H, W)``, finite where available.
        available: ``(H, W)`` bool, the pixels that may be picked; not modified.
        count: picks wanted, 0 or more; fewer are returned when nothing is available any more.
        radius: the square of this radius around a centre, clipped to the image, is asked.
        exclusion: the square of this radius around a centre can not be picked again.

    Returns:
        :class:`Selection`, on the device of ``scores``.

    Raises:
        ValueError: wrong shapes or dtypes, a negative number, or a non-finite score on an available pixel.

    >>> picked = select(torch.tensor([[3.0, 2.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool), 2, radius=0, exclusion=1)
    >>> picked.centres.tolist()
    [[0, 0], [0, 2]]
    """
    _check(scores, available, count, radius, exclusion)
    height, width = scores.shape
    flat = scores.detach().reshape(-1)
    candidates = _best(flat, available.reshape(-1), count * (2 * exclusion + 1) ** 2)
    # Only picks of this call need to be tracked here: candidates were available to begin with.
    blocked = bytearray(height * width)
    picks: list[int] = []
    for pixel in candidates.tolist():
        if len(picks) == count:
            break
        if not blocked[pixel]:
            picks.append(pixel)
            _fill_square(blocked, pixel, exclusion, height, width)
    region = bytearray(height * width)
    for pixel in picks:
        _fill_square(region, pixel, radius, height, width)
    index = torch.tensor(picks, dtype=torch.int64, device=scores.device)
    return Selection(
        centres=torch.stack((index // width, index % width), dim=1),
        scores=flat[index],
        available=available & ~_as_mask(blocked, scores),
        region=_as_mask(region, scores),
    )


def _best(scores: Tensor, available: Tensor, limit: int) -> Tensor:
    """Flat indices of the ``limit`` best available pixels, best first, equal scores in order of position."""
    if not bool((torch.isfinite(scores) | ~available).all()):
        raise ValueError("expected finite scores on available pixels, got NaN or infinity")
    values = scores.masked_fill(~available, -torch.inf)
    limit = min(limit, int(available.sum()))
    if limit == 0:
        return values.new_empty(0, dtype=torch.int64)
    # topk breaks ties in any order, so it only gives the threshold; what equals it is taken by position.
    threshold = values.topk(limit, sorted=False).values.amin()
    above = (values > threshold).nonzero().squeeze(1)
    equal = (values == threshold).nonzero().squeeze(1)[: limit - len(above)]
    order = values[above].sort(descending=True, stable=True).indices
    return torch.cat((above[order], equal))


def _fill_square(mask: bytearray, pixel: int, radius: int, height: int, width: int) -> None:
    row, column = divmod(pixel, width)
    left, right = max(column - radius, 0), min(column + radius + 1, width)
    line = b"\x01" * (right - left)
    for y in range(max(row - radius, 0), min(row + radius + 1, height)):
        mask[y * width + left : y * width + right] = line


def _as_mask(mask: bytearray, like: Tensor) -> Tensor:
    return torch.frombuffer(mask, dtype=torch.bool).reshape(like.shape).to(like.device)


def _check(scores: Tensor, available: Tensor, count: int, radius: int, exclusion: int) -> None:
    if scores.ndim != 2 or scores.numel() == 0 or not scores.is_floating_point():
        raise ValueError(f"expected floating scores (H, W), got {scores.dtype} of shape {tuple(scores.shape)}")
    if available.shape != scores.shape or available.dtype != torch.bool:
        raise ValueError(
            f"expected available as bool {tuple(scores.shape)}, got {available.dtype} of shape {tuple(available.shape)}"
        )
    if min(count, radius, exclusion) < 0:
        raise ValueError(f"expected count, radius and exclusion of 0 or more, got {count}, {radius} and {exclusion}")
