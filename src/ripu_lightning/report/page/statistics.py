"""Means with intervals, paired differences, areas and crossings: what a report says about several seeds."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from ripu_lightning.labels import LabelStore

LEVEL = 0.95
"""Of all intervals."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class Mean(NamedTuple):
    """Mean over so many ``seeds``; ``half`` is half the width of its 95% interval, None for a single value."""

    value: float
    half: float | None
    seeds: int

    @property
    def holds_zero(self) -> bool:
        """Whether the interval, where there is one, holds 0: as a difference, it tells nothing apart."""
        return self.half is None or abs(self.value) <= self.half


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and 95% interval by Student's t: half = t(n - 1) * s / sqrt(n), s the sample's standard deviation.

    Raises:
        ValueError: no values.

    >>> mean_of([0.5])
    Mean(value=0.5, half=None, seeds=1)
    >>> found = mean_of([1.0, 2.0, 3.0])
    >>> found.value, round(found.half, 3)
    (2.0, 2.484)
    """
    if not values:
        raise ValueError("expected one value or more, got none")
    count = len(values)
    mean = float(np.mean(values))
    if count == 1:
        return Mean(mean, None, 1)
    quantile = float(stdtrit(count - 1, (1 + LEVEL) / 2))
    return Mean(mean, quantile * float(np.std(values, ddof=1)) / count**0.5, count)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Mean | None:
    """Mean of ``first - second`` over the seeds that both have; None where they share none."""
    differences = [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]
    return mean_of(differences) if differences else None


def area_under(shares: Sequence[float], values: Sequence[float], start: float, stop: float) -> float | None:
    """Mean height of a curve between two shares: its trapezoids' area there, divided by the range.

    Args:
        shares: ascending.
        values: one for each.
        start: where the range begins.
        stop: where it ends, above ``start``.

    Returns:
        None where the curve does not cover the range: nothing is extrapolated.

    >>> area_under([0.0, 0.02], [0.2, 0.4], 0.0, 0.01)
    0.25
    """
    if len(shares) < 2 or shares[0] > start or shares[-1] < stop or stop <= start:
        return None
    x, y = np.asarray(shares, dtype=np.float64), np.asarray(values, dtype=np.float64)
    inside = np.concatenate([[start], x[(x > start) & (x < stop)], [stop]])
    heights = np.interp(inside, x, y)
    area = float(((heights[1:] + heights[:-1]) / 2 * np.diff(inside)).sum() / (stop - start))
    return None if np.isnan(area) else area


def first_reached(shares: Sequence[float], values: Sequence[float], wanted: float) -> float | None:
    """The share at which a curve first reaches a value, linear between its points; None where it never does.

    >>> first_reached([0.0, 0.01, 0.02], [0.2, 0.3, 0.5], 0.4)
    0.015
    """
    for index, (share, value) in enumerate(zip(shares, values, strict=True)):
        if value >= wanted:
            if index == 0:
                return share
            before, low = shares[index - 1], values[index - 1]
            return before + (share - before) * (wanted - low) / (value - low)
    return None


def kept_from(shares: Sequence[float], values: Sequence[float], wanted: float) -> float | None:
    """The share from which on a curve keeps a value, linear between its points; None where it ends below.

    >>> kept_from([0.0, 0.01, 0.02, 0.03], [0.2, 0.5, 0.3, 0.5], 0.4)
    0.025
    """
    below = [index for index, value in enumerate(values) if value < wanted]
    start = below[-1] if below else 0
    return first_reached(shares[start:], values[start:], wanted)


def overlaps(stores: Sequence[LabelStore], progress: Callable[[Sequence[str]], Sequence[str]] = list) -> Floats:
    """For each pair of stores, the pixels bought by both as a share of those bought by either, ``(n, n)``, 0..1.

    NaN where neither bought any, and where an image of both has two sizes.

    Args:
        stores: of runs on images of the same names.
        progress: wraps the ids of the images.

    Raises:
        UserError: a store can not be read.
    """
    touched = [set(store.touched) for store in stores]
    both, either = np.zeros((2, len(stores), len(stores)))
    for image_id in progress(sorted(set().union(*touched))):
        asked = {i: store.asked(image_id) > 0 for i, store in enumerate(stores) if image_id in touched[i]}
        sizes = {i: np.count_nonzero(map_) for i, map_ in asked.items()}
        for i, j in [*combinations(range(len(stores)), 2), *((k, k) for k in range(len(stores)))]:
            common = _common(asked[i], asked[j]) if i in asked and j in asked else 0
            both[i, j] += common
            either[i, j] += sizes.get(i, 0) + sizes.get(j, 0) - common
    both, either = np.maximum(both, both.T), np.maximum(either, either.T)
    share: Floats = np.divide(both, either, out=np.full_like(both, np.nan), where=either > 0)
    return share


def _common(first: Bools, second: Bools) -> float:
    return float(np.count_nonzero(first & second)) if first.shape == second.shape else math.nan
