"""Counts of the queried pixels that add up over images and processes, and the figures made of them."""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.data.statistics import on_boundary

BoolArray = npt.NDArray[np.bool_]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Pixels of S strategies and, in the last row, of the whole pool; counts of several images are added.

    Attributes:
        pixels: ``(S + 1,)``, void ones included.
        void: ``(S + 1,)``, without a class in the truth.
        wrong: ``(S + 1,)``, those with a class that the network gets wrong.
        boundary: ``(S + 1,)``, those with another class above, below, left or right.
        images: ``(S + 1,)`` with at least one pixel.
        classes: ``(S + 1, C)``, pixels by their class.
        joint: ``(S, S)``, pixels that both strategies query.
    """

    pixels: Int64Array
    void: Int64Array
    wrong: Int64Array
    boundary: Int64Array
    images: Int64Array
    classes: Int64Array
    joint: Int64Array

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


class Figures(NamedTuple):
    """What one strategy queried, or (``share`` 1) the whole pool; shares in 0..1, NaN is nothing by nothing.

    Attributes:
        pixels: queried, void ones included.
        share: of the pool's pixels.
        precision: share of the queried pixels with a class that the network gets wrong; random expects the pool's.
        recall: share of the network's errors that are queried; random expects ``share``.
        lift: ``precision`` over the pool's.
        void: share of the queried pixels without a class.
        boundary: share of the queried pixels with a class at the boundary of two classes.
        classes: of the classes in the pool, the share with at least one pixel queried.
        balance: entropy of the queried pixels' classes over the logarithm of the number of classes in the pool; 1 where
            all have as many pixels.
        images: with at least one pixel.
        class_pixels: queried by class.
    """

    pixels: int
    share: float
    precision: float
    recall: float
    lift: float
    void: float
    boundary: float
    classes: float
    balance: float
    images: int
    class_pixels: list[int]


def count(truth: UInt8Array, predicted: UInt8Array, queried: BoolArray, pool: BoolArray, classes: int) -> Counts:
    """The counts of one image; pixels outside ``pool``, ``(H, W)``, have a label already and are not counted.

    ``truth`` (255 = void) and ``predicted`` are ``(H, W)`` class indices, ``queried`` is ``(S, H, W)``.
    """
    sets = np.concatenate([queried & pool, pool[None]]).reshape(len(queried) + 1, -1)
    labels = truth.reshape(-1)
    named = labels != IGNORE
    wrong, edge = named & (predicted != truth).reshape(-1), named & on_boundary(truth).reshape(-1)
    some = sets[:-1, sets[:-1].any(axis=0)].astype(np.int64)
    return Counts(
        pixels=sets.sum(axis=1),
        void=(sets & ~named).sum(axis=1),
        wrong=(sets & wrong).sum(axis=1),
        boundary=(sets & edge).sum(axis=1),
        images=np.array(sets.any(axis=1), dtype=np.int64),
        classes=np.stack([np.bincount(labels[each & named], minlength=classes) for each in sets]),
        joint=some @ some.T,
    )


def figures_of(counts: Counts) -> list[Figures]:
    """The figures of each strategy and, last, of the pool."""
    return [_figures(counts, row) for row in range(len(counts.pixels))]


def agreement(counts: Counts) -> npt.NDArray[np.float64]:
    """``(S, S)`` intersection over union of what two strategies query, 0..1; NaN where neither has a query."""
    own = counts.joint.diagonal()
    union = own[:, None] + own - counts.joint
    return np.where(union > 0, counts.joint / np.maximum(union, 1), math.nan)


def _figures(counts: Counts, row: int) -> Figures:
    pixels, void, wrong = (int(column[row]) for column in (counts.pixels, counts.void, counts.wrong))
    named, precision = pixels - void, _over(wrong, pixels - void)
    held = counts.classes[-1] > 0
    return Figures(
        pixels=pixels,
        share=_over(pixels, counts.pixels[-1]),
        precision=precision,
        recall=_over(wrong, counts.wrong[-1]),
        lift=_over(precision, _over(counts.wrong[-1], counts.pixels[-1] - counts.void[-1])),
        void=_over(void, pixels),
        boundary=_over(counts.boundary[row], named),
        classes=_over(np.count_nonzero(counts.classes[row]), np.count_nonzero(held)),
        balance=_balance(counts.classes[row][held]),
        images=int(counts.images[row]),
        class_pixels=counts.classes[row].tolist(),
    )


def _balance(pixels: Int64Array) -> float:
    total = pixels.sum()
    if not total or len(pixels) < 2:
        return math.nan
    shares = pixels[pixels > 0] / total
    return float(-(shares * np.log(shares)).sum() / math.log(len(pixels)))


def _over(part: float | np.integer, whole: float | np.integer) -> float:
    return float(part) / float(whole) if whole else math.nan
