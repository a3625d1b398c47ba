"""Means with intervals, paired differences, areas and crossings: what a report says about several seeds."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from ripu_lightning.labels import LabelStore

LEVEL = 0.95
"""Of all intervals."""


class Mean(NamedTuple):
    """Mean over so many ``seeds``; ``half`` is half the width of its 95% interval, None for a single value."""

    value: float
    half: float | None
    seeds: int

    @property
    def holds_zero(self) -> bool:
        """Whether the interval, where there is one, holds 0: a difference is then not distinguishable from 0."""
        return self.half is None or abs(self.value) <= self.half


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and 95% interval by Student's t: half = t(n - 1) * s / sqrt(n), s the sample's standard deviation.

    >>> mean_of([0.5])
    Mean(value=0.5, half=None, seeds=1)
    """
    if not values:
        raise ValueError("expected one value or more, got none")
    count, mean = len(values), float(np.mean(values))
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

    None where the curve does not cover the range: nothing is extrapolated.

    >>> area_under([0.0, 0.02], [0.2, 0.4], 0.0, 0.01)
    0.25
    """
    if len(shares) < 2 or shares[0] > start or shares[-1] < stop or stop <= start:
        return None
    x = np.asarray(shares, dtype=np.float64)
    inside = np.concatenate([[start], x[(x > start) & (x < stop)], [stop]])
    heights = np.interp(inside, x, values)
    area = float(((heights[1:] + heights[:-1]) / 2 * np.diff(inside)).sum() / (stop - start))
    return None if math.isnan(area) else area


def first_reached(shares: Sequence[float], values: Sequence[float], wanted: float) -> float | None:
    """The share at which a curve first reaches a value, linear between its points; None where it never does.

    >>> first_reached([0.0, 0.01, 0.02], [0.2, 0.3, 0.5], 0.4)
    0.015
    """
    index = next((index for index, value in enumerate(values) if value >= wanted), None)
    if not index:
        return None if index is None else shares[0]
    before, low = shares[index - 1], values[index - 1]
    return before + (shares[index] - before) * (wanted - low) / (values[index] - low)


def kept_from(shares: Sequence[float], values: Sequence[float], wanted: float) -> float | None:
    """The share from which on a curve keeps a value, linear between its points; None where it ends below.

    >>> kept_from([0.0, 0.01, 0.02, 0.03], [0.2, 0.5, 0.3, 0.5], 0.4)
    0.025
    """
    below = [index for index, value in enumerate(values) if value < wanted]
    start = below[-1] if below else 0
    return first_reached(shares[start:], values[start:], wanted)


def overlaps(stores: Sequence[LabelStore]) -> npt.NDArray[np.float64]:
    """For each pair of stores, the pixels queried by both as a share of those queried by either, ``(n, n)``, 0..1.

    NaN where neither has any, and where an image of both has two sizes. Raises UserError where a store is damaged.
    """
    queried = [set(store.queried_images) for store in stores]
    both, either = np.zeros((2, len(stores), len(stores)))
    for image_id in set().union(*queried):
        masks = [store.query_round(image_id) > 0 for store, ids in zip(stores, queried, strict=True) if image_id in ids]
        owners = [index for index, ids in enumerate(queried) if image_id in ids]
        own = dict(zip(owners, masks, strict=True))
        for i, j in combinations_with_replacement(range(len(stores)), 2):
            common = 0.0
            if i in own and j in own:
                common = float((own[i] & own[j]).sum()) if own[i].shape == own[j].shape else math.nan
            both[i, j] += common
            either[i, j] += sum(float(own[k].sum()) for k in (i, j) if k in own) - common
    both, either = np.maximum(both, both.T), np.maximum(either, either.T)
    return np.divide(both, either, out=np.full_like(both, np.nan), where=either > 0)
