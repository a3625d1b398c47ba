"""Superpixels as a region type."""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition.label_maps import read_regions, require_scikit_image, slic
from ripu_lightning.acquisition.region_types import REDUCTIONS, Outline, Reduce, RegionType, Shape, Units
from ripu_lightning.errors import InvalidArgument, UserError, require_choice, require_integer, require_number


class Superpixel(RegionType):
    """Regions of any shape that do not overlap: SLIC superpixels, or label maps from a folder.

    Args:
        segments: superpixels an image that SLIC aims at.
        compactness: of SLIC; higher values give squarer superpixels.
        folder: of label maps, ``<image id>.png`` (8 or 16 bit) or ``<image id>.pt``; None runs SLIC.
        reduce: score of a region: the ``mean``, ``max`` or ``sum`` over its pixels.

    >>> regions = torch.tensor([[0, 0, 1], [2, 1, 1]])
    >>> superpixel = Superpixel(segments=3)
    >>> units = superpixel.units(torch.tensor([[4.0, 0, 3], [1, 3, 3]]), torch.ones(2, 3, dtype=torch.bool), regions)
    >>> best = superpixel.greedy_order(units, (2, 3), limit=1)
    >>> best.tolist(), superpixel.outline(superpixel.positions(best, regions), (2, 3), regions)
    ([1], Outline(boxes=tensor([[0, 1, 2, 2]]), inside=tensor([False,  True,  True,  True])))
    """

    name = "superpixel"
    segments = True

    def __init__(
        self,
        segments: int = 400,
        compactness: float = 10.0,
        folder: str | PathLike[str] | None = None,
        reduce: Reduce = "mean",
    ) -> None:
        require_integer("Superpixel", "segments", segments, least=1)
        require_number("Superpixel", "compactness", compactness, above=True)
        require_choice("Superpixel", "reduce", reduce, REDUCTIONS)
        if folder is not None and not Path(folder).is_dir():
            raise InvalidArgument("Superpixel", "folder", f"must be a folder of label maps, got {folder}")
        self.number, self.compactness, self.reduce = segments, compactness, reduce
        self.folder = None if folder is None else Path(folder)

    def check(self, height: int, width: int) -> None:
        """See :class:`RegionType`."""
        if self.number > height * width:
            problem = f"must be at most {height * width}, the pixels of an image of {height}x{width}, got {self.number}"
            raise InvalidArgument("Superpixel", "segments", problem)

    def typical_area(self, height: int, width: int) -> float | None:
        """See :class:`RegionType`; SLIC makes about as many superpixels as it aims at."""
        return None if self.folder else height * width / self.number

    def require(self, image_ids: Sequence[str]) -> None:
        """Label maps of all images, or scikit-image."""
        if self.folder is None:
            require_scikit_image()
        for image_id in image_ids if self.folder else []:
            self._label_map(image_id)

    def segment(self, image: Any, image_id: str) -> Tensor:
        """See :class:`RegionType`."""
        if self.folder is None:
            return slic(image, self.number, self.compactness)
        path = self._label_map(image_id)
        regions = read_regions(path)
        if regions.shape != image.shape[:2]:
            raise UserError(f"{path}: expected a map of {tuple(image.shape[:2])}, got {tuple(regions.shape)}")
        return regions

    def _label_map(self, image_id: str) -> Path:
        folder = self.folder or Path()
        for path in (folder / f"{image_id}.png", folder / f"{image_id}.pt"):
            if path.is_file():
                return path
        raise InvalidArgument("Superpixel", "folder", f"has no label map {folder / image_id}.png (or .pt)")

    def units(self, scores: Tensor, available: Tensor, regions: Tensor | None = None) -> Units:
        """One unit a region; free if all its pixels are available."""
        regions = _required(regions)
        values = F.pool_regions(scores[None], regions[None], self.reduce)[0]
        labelled = torch.bincount(regions[~available], minlength=len(values))
        return Units(values, (labelled == 0) & (values > -math.inf))  # a number without pixels scores -inf

    def positions(self, numbers: Tensor, regions: Tensor | None = None) -> Tensor:
        """The pixel of each region that is nearest to its centroid; the first of equals."""
        return _centres(_required(regions))[numbers]

    def members(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See :class:`RegionType`."""
        flat = _required(regions).reshape(-1)
        row_of = torch.full((int(flat.max()) + 1,), -1, dtype=torch.int64, device=flat.device)
        row_of[flat[positions]] = torch.arange(len(positions), device=flat.device)
        pixels = (row_of[flat] >= 0).nonzero()[:, 0]
        return pixels, row_of[flat[pixels]]

    def outline(self, positions: Tensor, shape: Shape, regions: Tensor | None = None) -> Outline:
        """See :class:`RegionType`."""
        regions = _required(regions)
        pixels, rows = self.members(positions, shape, regions)
        ends = []
        for along in (pixels // shape[1], pixels % shape[1]):
            empty = along.new_zeros(len(positions))
            low = empty.scatter_reduce(0, rows, along, "amin", include_self=False)
            ends.append((low, empty.scatter_reduce(0, rows, along, "amax", include_self=False) - low + 1))
        boxes = torch.stack((ends[0][0], ends[1][0], ends[0][1], ends[1][1]), dim=1)
        numbers = regions.reshape(-1)[positions].tolist()
        patches = [
            regions[top : top + height, left : left + width].reshape(-1) == number
            for number, (top, left, height, width) in zip(numbers, boxes.tolist(), strict=True)
        ]
        return Outline(boxes, torch.cat(patches) if patches else torch.zeros(0, dtype=torch.bool))


def _centres(regions: Tensor) -> Tensor:
    """Flat position of each region's pixel nearest to its centroid, ``(R,)``."""
    flat, width = regions.reshape(-1), regions.shape[1]
    pixels = torch.arange(len(flat), device=flat.device)
    count = torch.bincount(flat).clamp_(min=1)
    distance = torch.zeros(len(flat), dtype=torch.float64, device=flat.device)
    for along in (pixels // width, pixels % width):
        total = torch.bincount(flat, weights=along.double())
        distance += (along * count[flat] - total[flat]) ** 2  # times count^2: whole numbers compare exactly
    least = distance.new_zeros(len(count)).scatter_reduce(0, flat, distance, "amin", include_self=False)
    nearest = (distance == least[flat]).nonzero()[:, 0]
    return pixels.new_zeros(len(count)).scatter_reduce(0, flat[nearest], nearest, "amin", include_self=False)


def _required(regions: Tensor | None) -> Tensor:
    if regions is None or regions.ndim != 2 or regions.dtype != torch.int64 or bool((regions < 0).any()):
        given = None if regions is None else f"{regions.dtype} of shape {tuple(regions.shape)}"
        raise ValueError(f"superpixels: expected regions (H, W) int64, numbered from 0, got {given}")
    return regions
