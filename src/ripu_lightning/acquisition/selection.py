"""Greedy selection with exclusion on one score map: exactly the plain loop of argmaxes, but fast."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ripu_lightning.acquisition.functional.windows import clipped_spans
from ripu_lightning.errors import require_integer

# The first part of the map that is sorted holds this multiple of the picks wanted; each further part is deeper.
_FIRST_LOOK, _DEEPER = 8, 4
_SAMPLE = 32_768
_SLICE = 65_536


class Selection(NamedTuple):
    """The queries of one image in one round.

    Attributes:
        centres: ``(n, 2)`` int64, (row, column), in order of selection.
        scores: ``(n,)``, the scores of the centres; never increasing.
        available: ``(H, W)`` bool, the pixels that may still be picked afterwards.
        region: ``(H, W)`` bool, the queried pixels.
    """

    centres: Tensor
    scores: Tensor
    available: Tensor
    region: Tensor


def select(scores: Tensor, available: Tensor, count: int, radius: int = 1, exclusion: int = 2) -> Selection:
    """Pick ``count`` centres greedily: the best available pixel, block its surroundings, repeat.

    The picks equal those of a loop of argmaxes over the full map; of equal scores the first in row-major order wins.
    Only the upper end of the map is ever sorted.

    Args:
        scores: ``(H, W)``, finite where available.
        available: ``(H, W)`` bool, the pixels that may be picked; not modified.
        count: picks wanted, 0 or more; fewer are returned when nothing is available any more.
        radius: the square of this radius around a centre, clipped to the image, is queried.
        exclusion: the square of this radius around a centre cannot be picked again.

    Returns:
        :class:`Selection`, on the device of ``scores``.

    Raises:
        ValueError: wrong shapes or dtypes, or a non-finite score on an available pixel.
        InvalidArgument: a negative number.

    >>> picked = select(torch.tensor([[3.0, 2.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool), 2, radius=0, exclusion=1)
    >>> picked.centres.tolist()
    [[0, 0], [0, 2]]
    """
    _check(scores, available, count, radius, exclusion)
    height, width = scores.shape
    flat = scores.detach().reshape(-1)
    picks, blocked = greedy(flat, available.reshape(-1), count, exclusion, (height, width))
    region, fill = bytearray(height * width), _square_filler((height, width), radius)
    for pixel in picks:
        fill(region, pixel)
    index = torch.tensor(picks, dtype=torch.int64, device=scores.device)
    return Selection(
        centres=torch.stack((index // width, index % width), dim=1),
        scores=flat[index],
        available=available & ~_as_mask(blocked, scores),
        region=_as_mask(region, scores),
    )


def greedy(
    scores: Tensor, available: Tensor, count: int, exclusion: int, shape: tuple[int, int], floor: float = -math.inf
) -> tuple[list[int], bytearray]:
    """Flat positions of up to ``count`` picks with scores above ``floor``, and the pixels they block, a byte each.

    ``scores`` and ``available`` are flat, ``(H*W,)``; ``exclusion`` is the radius of the square that a pick blocks.
    """
    blocked, block = bytearray(shape[0] * shape[1]), _square_filler(shape, exclusion)
    picks: list[int] = []
    for pixel in _descending(scores, available, count, floor):
        if len(picks) == count:
            break
        if not blocked[pixel]:
            picks.append(pixel)
            block(blocked, pixel)
    return picks, blocked


def best_first(scores: Tensor, available: Tensor, floor: float = -math.inf) -> Tensor:
    """Numbers of all available entries of ``scores`` ``(N,)`` above ``floor``, best first, equals in their order."""
    require_finite(scores, available)
    index = (available & (scores > floor)).nonzero()[:, 0]
    return index[scores[index].sort(descending=True, stable=True).indices]


def _descending(scores: Tensor, available: Tensor, count: int, floor: float) -> Iterator[int]:
    """All available pixels above ``floor``, best first, equals in order of position; sorted only as far as read."""
    require_finite(scores, available)
    values = scores.masked_fill(~available, -math.inf)
    above: float | None = None
    for threshold in [*_thresholds(values, count), floor]:
        threshold = max(threshold, floor)
        wanted = values > threshold if threshold == floor else values >= threshold
        if above is not None:
            wanted &= values < above
        index = wanted.nonzero()[:, 0]
        order = values[index].sort(descending=True, stable=True).indices
        for start in range(0, len(order), _SLICE):
            yield from index[order[start : start + _SLICE]].tolist()
        if threshold == floor:
            return
        above = threshold


def _thresholds(values: Tensor, count: int) -> list[float]:
    """Falling scores, estimated from a sample: about ``_FIRST_LOOK * count`` pixels are above the first, and so on."""
    # An odd step, so that the sample does not stay in a few columns of the image.
    step = (len(values) // _SAMPLE) | 1
    sample = values[::step].sort(descending=True).values
    ranks, rank = [], max(_FIRST_LOOK * count // step, 16)
    while rank < len(sample):
        ranks.append(rank)
        rank *= _DEEPER
    found = sample[ranks].tolist() if ranks else []
    return [value for value in dict.fromkeys(found) if value > -math.inf]


def top(scores: Tensor, count: int) -> Tensor:
    """Which ``count`` of ``scores`` ``(N,)`` are the best, ``(N,)`` bool; of equals the first.

    >>> top(torch.tensor([1.0, 3.0, 2.0, 2.0]), 2)
    tensor([False,  True,  True, False])
    """
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    # The k-th value is the same on every device; which of equals a top-k returns is not.
    threshold = scores.kthvalue(len(scores) - count + 1).values
    chosen = scores > threshold
    equal = (scores == threshold).nonzero()[:, 0]
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen


def require_finite(scores: Tensor, available: Tensor) -> None:
    """Raise ValueError for NaN or infinity on an available entry; the other scores may be anything."""
    if scores.numel() == 0:
        return
    low, high = scores.aminmax()
    # The pixel-wise check, which copies the map, is needed only if some score, perhaps of no interest, is not finite.
    if not bool(torch.isfinite(low) & torch.isfinite(high)) and not bool((torch.isfinite(scores) | ~available).all()):
        raise ValueError("expected finite scores on available pixels, got NaN or infinity")


def _square_filler(shape: tuple[int, int], radius: int) -> Callable[[bytearray, int], None]:
    """A function that sets a mask, a byte a pixel, in the clipped square around a pixel."""
    width = shape[1]
    (tops, bottoms), (lefts, rights) = ([end.tolist() for end in clipped_spans(size, radius)] for size in shape)

    def fill(mask: bytearray, pixel: int) -> None:
        row, column = divmod(pixel, width)
        left, right = lefts[column], rights[column]
        line = b"\x01" * (right - left)
        for start in range(tops[row] * width, bottoms[row] * width, width):
            mask[start + left : start + right] = line

    return fill


def _as_mask(mask: bytearray, like: Tensor) -> Tensor:
    return torch.frombuffer(mask, dtype=torch.bool).reshape(like.shape).to(like.device)


def _check(scores: Tensor, available: Tensor, count: int, radius: int, exclusion: int) -> None:
    if scores.ndim != 2 or scores.numel() == 0 or not scores.is_floating_point():
        raise ValueError(f"expected floating scores (H, W), got {scores.dtype} of shape {tuple(scores.shape)}")
    if available.shape != scores.shape or available.dtype != torch.bool:
        raise ValueError(
            f"expected available as bool {tuple(scores.shape)}, got {available.dtype} of shape {tuple(available.shape)}"
        )
    for name, value in (("count", count), ("radius", radius), ("exclusion", exclusion)):
        require_integer("select", name, value)
