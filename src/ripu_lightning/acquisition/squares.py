"""Squares and single pixels as region types."""

import math
from typing import Literal

import torch
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition.functional.windows import square_boxes
from ripu_lightning.acquisition.region_types import REDUCTIONS, Outline, Reduce, RegionType, Shape, Units
from ripu_lightning.acquisition.selection import greedy
from ripu_lightning.errors import InvalidArgument, require_choice, require_integer


class Square(RegionType):
    """Squares of side ``2*radius + 1``, clipped to the image; radius 0 is a single pixel.

    Args:
        radius: a query labels the square of this radius.
        exclusion: no later query has its centre in the square of this radius around a query; None is ``2*radius``,
            the least with which squares do not overlap (Xie et al., 2022).
        reduce: score of a square: that of its ``centre``, or the ``mean``, ``max`` or ``sum`` over the square.

    >>> square = Square(radius=1)
    >>> units = square.units(torch.arange(20.0).reshape(4, 5), torch.ones(4, 5, dtype=torch.bool))
    >>> picks = square.greedy_order(units, (4, 5), limit=2)
    >>> picks.tolist(), square.outline(picks, (4, 5)).boxes.tolist()
    ([19, 16], [[2, 3, 2, 2], [2, 0, 2, 3]])
    """

    name = "square"

    def __init__(
        self, radius: int = 1, exclusion: int | None = None, reduce: Literal["centre"] | Reduce = "centre"
    ) -> None:
        owner = type(self).__name__
        require_integer(owner, "radius", radius)
        require_choice(owner, "reduce", reduce, ("centre", *REDUCTIONS))
        if exclusion is not None:
            require_integer(owner, "exclusion", exclusion)
            if exclusion < 2 * radius:
                problem = f"must be >= {2 * radius}, so that squares of radius {radius} do not overlap, got {exclusion}"
                raise InvalidArgument(owner, "exclusion", problem)
        self.radius, self.reduce = radius, reduce
        self.exclusion = 2 * radius if exclusion is None else exclusion

    def check(self, height: int, width: int) -> None:
        """See :class:`RegionType`."""
        side, least = 2 * self.radius + 1, min(height, width)
        if side > least:
            problem = f"{self.radius}: a square of {side} pixels does not fit into images of {height}x{width}"
            raise InvalidArgument(type(self).__name__, "radius", f"{problem}; use at most {(least - 1) // 2}")

    def area(self, height: int, width: int) -> int:
        """``(2*radius + 1)^2``, at the image's border too, as published."""
        return (2 * self.radius + 1) ** 2

    def units(self, scores: Tensor, available: Tensor, regions: Tensor | None = None) -> Units:
        """One unit a pixel."""
        values = scores if self.reduce == "centre" else F.pool_square(scores[None], self.radius, self.reduce)[0]
        return Units(values.reshape(-1), available.reshape(-1))

    def greedy_order(self, units: Units, shape: Shape, limit: int, floor: float = -math.inf) -> Tensor:
        """See :class:`RegionType`."""
        picks, _ = greedy(units.values, units.free, limit, self.exclusion, shape, floor)
        return torch.tensor(picks, dtype=torch.int64, device=units.values.device)

    def positions(self, numbers: Tensor, regions: Tensor | None = None) -> Tensor:
        """The same: a unit's number is the position of its centre."""
        return numbers

    def members(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`RegionType`."""
        top, left, height, width = square_boxes(positions, self.radius, shape)[:, :, None].unbind(dim=1)
        offset = torch.arange(2 * self.radius + 1, device=positions.device)
        pixels = ((top + offset) * shape[1])[:, :, None] + (left + offset)[:, None]
        within = (offset < height)[:, :, None] & (offset < width)[:, None]
        return pixels[within], within.nonzero()[:, 0]

    def outline(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> Outline:
        """See :class:`RegionType`."""
        return Outline(square_boxes(positions, self.radius, shape), None)


class Pixel(Square):
    """Single pixels.

    Args:
        exclusion: no later query lies in the square of this radius around a query (Xie et al., pixel-based: 32).
    """

    name = "pixel"

    def __init__(self, exclusion: int = 0) -> None:
        super().__init__(0, exclusion)
