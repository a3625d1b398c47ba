"""Region types: the regions that can be queried and what each of them labels. Here: the base class and whole images."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition.selection import best_first
from ripu_lightning.errors import require_choice

Reduce = Literal["mean", "max", "sum"]
REDUCTIONS = ("mean", "max", "sum")
Shape = tuple[int, int]


class Units(NamedTuple):
    """All regions of one image that could be queried, by number.

    Attributes:
        values: ``(U,)`` scores.
        free: ``(U,)`` bool, whether the region may still be queried.
    """

    values: Tensor
    free: Tensor


class Outline(NamedTuple):
    """The pixels of some queries.

    Attributes:
        boxes: ``(n, 4)`` int64, (top, left, height, width), clipped to the image.
        inside: ``(sum of height*width,)`` bool, box after box, row by row; None if queries fill their boxes.
    """

    boxes: Tensor
    inside: Tensor | None


class RegionType:
    """Base class. A unit (a region that may be queried) has a number and a centre at a flat position ``row * W + col``.

    Attributes:
        name: its name in tables.
        exclusion: radius of the square around a query's centre in which no later query may have its centre.
        segments: whether images must be segmented (:meth:`segment`); the other methods then get ``regions``
            ``(H, W)`` int64, else None.
    """

    name: str
    exclusion: int = 0
    segments: bool = False

    def check(self, height: int, width: int) -> None:
        """Raise :class:`InvalidArgument` if a region does not fit into an image of this size."""

    def require(self, image_ids: Sequence[str]) -> None:
        """Raise :class:`UserError` if a file or package is missing that :meth:`segment` needs for these images."""

    def area(self, height: int, width: int) -> int | None:
        """Pixels that a query costs (a clipped square costs a full one); None if that differs between queries."""
        return None

    def typical_area(self, height: int, width: int) -> float | None:
        """:meth:`area`, or the mean pixels of an image's regions; None if that is not known before they are read."""
        return self.area(height, width)

    def segment(self, image: Any, image_id: str) -> Tensor:
        """The region of each pixel, ``(H, W)`` int64, of an RGB image ``(H, W, 3)`` uint8."""
        raise TypeError(f"{type(self).__name__} does not segment images")

    def units(self, scores: Tensor, available: Tensor, regions: Tensor | None = None) -> Units:
        """The units of one image, from scores ``(H, W)`` and available pixels ``(H, W)`` bool."""
        raise NotImplementedError

    def greedy_order(self, units: Units, shape: Shape, limit: int, floor: float = -math.inf) -> Tensor:
        """Numbers ``(n,)`` of up to ``limit`` free units with values above ``floor``: best first, none excluded."""
        return best_first(units.values, units.free, floor)[:limit]

    def positions(self, numbers: Tensor, regions: Tensor | None = None) -> Tensor:
        """Flat positions ``(n,)`` of the units' centres."""
        raise NotImplementedError

    def members(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All pixels of the units with these centres: flat positions ``(m,)`` and each pixel's row in ``positions``."""
        raise NotImplementedError

    def outline(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> Outline:
        """The pixels of queries with these centres."""
        raise NotImplementedError


class WholeImage(RegionType):
    """Whole images; they need a budget of the pool, because an image holds only one of them.

    Args:
        reduce: score of an image: the ``mean``, ``max`` or ``sum`` over its pixels.

    >>> WholeImage().units(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]]))
    Units(values=tensor([1.5000]), free=tensor([True]))
    """

    name = "image"

    def __init__(self, reduce: Reduce = "mean") -> None:
        require_choice("WholeImage", "reduce", reduce, REDUCTIONS)
        self.reduce = reduce

    def typical_area(self, height: int, width: int) -> float:
        """See :class:`RegionType`."""
        return float(height * width)

    def units(self, scores: Tensor, available: Tensor, regions: Tensor | None = None) -> Units:
        """One unit; free if all pixels are available."""
        return Units(F.pool_image(scores[None], self.reduce), available.all().reshape(1))

    def positions(self, numbers: Tensor, regions: Tensor | None = None) -> Tensor:
        """The image's first pixel."""
        return torch.zeros_like(numbers)

    def members(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`RegionType`."""
        pixels = torch.arange(shape[0] * shape[1] * len(positions), device=positions.device)
        return pixels, torch.zeros_like(pixels)

    def outline(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> Outline:
        """See :class:`RegionType`."""
        return Outline(torch.tensor([[0, 0, *shape]]).repeat(len(positions), 1), None)
