"""Class probabilities and features of an image from overlapping windows, several of them in one forward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ripu_lightning.errors import InvalidArgument, require_integer, require_number
from ripu_lightning.networks.resize import resize_logits

Window = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Windows ``(B, 3, h, w)`` -> logits ``(B, C, h', w')``, and features ``(B, D, h'', w'')`` where they are used."""


@dataclass(frozen=True)
class SlidingWindow:
    """A window that slides over an image, for images that are larger than the training images or than memory allows.

    The last window of a row or column is shifted inside. A side shorter than the window is used completely.

    Args:
        size: ``(h, w)`` in pixels.
        overlap: smallest share of a window that the next one covers again, from 0 to below 1.
        batch: windows of each image in one forward pass, 1 or more.

    Raises:
        InvalidArgument: a value out of range.
    """

    size: Sequence[int]
    overlap: float = 0.5
    batch: int = 4

    def __post_init__(self) -> None:
        require_window("SlidingWindow", "size", self.size)
        require_overlap("SlidingWindow", self.overlap)
        require_integer("SlidingWindow", "batch", self.batch, least=1)
        object.__setattr__(self, "size", tuple(self.size))

    def corners(self, height: int, width: int) -> list[tuple[int, int]]:
        """``(top, left)`` of each window over an image ``(height, width)``, row by row.

        >>> SlidingWindow((4, 4), overlap=0.5).corners(4, 9)
        [(0, 0), (0, 2), (0, 4), (0, 5)]
        """
        tops, lefts = (
            _starts(length, min(side, length), self.overlap)
            for length, side in zip((height, width), self.size, strict=True)
        )
        return [(top, left) for top in tops for left in lefts]

    def run(self, network: Window, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Average what the network gives for the windows that contain each pixel.

        Args:
            network: gives logits at any stride.
            images: ``(B, 3, H, W)`` normalised.

        Returns:
            Class probabilities ``(B, C, H, W)`` float32, and features ``(B, D, H', W')`` float32 at the network's
            stride, to whose grid the windows are rounded; None where the network gives no features.
        """
        size = images.shape[-2], images.shape[-1]
        height, width = min(self.size[0], size[0]), min(self.size[1], size[1])
        corners = self.corners(*size)
        probabilities, features = _Mean(size), None
        for first in range(0, len(corners), self.batch):
            here = corners[first : first + self.batch]
            logits, found = network(torch.cat([images[..., y : y + height, x : x + width] for y, x in here]))
            scores = resize_logits(logits, (height, width)).softmax(dim=1)
            for corner, part in zip(here, scores.chunk(len(here)), strict=True):
                probabilities.add(part, corner)
            if found is None:
                continue
            grid = _grid(size[0], height, found.shape[2]), _grid(size[1], width, found.shape[3])
            features = features or _Mean(grid)
            for (top, left), part in zip(here, found.chunk(len(here)), strict=True):
                row = _cell(top, size[0] - height, grid[0] - part.shape[2])
                features.add(part, (row, _cell(left, size[1] - width, grid[1] - part.shape[3])))
        return probabilities.value(), None if features is None else features.value()


class _Mean:
    """The mean of maps ``(B, C, h, w)`` that overlap on a grid ``(H, W)``."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._total = self._counts = torch.empty(0)

    def add(self, part: Tensor, corner: tuple[int, int]) -> None:
        if not self._total.numel():
            self._total = part.new_zeros((*part.shape[:2], *self._size), dtype=torch.float32)
            self._counts = self._total.new_zeros(self._size)
        (top, left), (height, width) = corner, part.shape[-2:]
        here = (..., slice(top, top + height), slice(left, left + width))
        self._total[here] += part
        self._counts[here] += 1

    def value(self) -> Tensor:
        return self._total.div_(self._counts)


def require_window(owner: str, argument: str, window: object) -> None:
    """Raise :class:`InvalidArgument` unless ``window`` is ``[height, width]`` in pixels."""
    sides = window if isinstance(window, Sequence) else ()
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        raise InvalidArgument(owner, argument, f"must be [height, width] in pixels, got {window!r}")


def require_overlap(owner: str, overlap: float) -> None:
    """Raise :class:`InvalidArgument` unless ``overlap`` is a number from 0 to below 1."""
    require_number(owner, "overlap", overlap)
    if overlap >= 1:
        raise InvalidArgument(owner, "overlap", f"must be below 1, got {overlap}")


def _starts(length: int, window: int, overlap: float) -> list[int]:
    stride = max(1, int(window * (1 - overlap)))
    return [*range(0, length - window, stride), length - window]


def _grid(length: int, window: int, cells: int) -> int:
    """Cells of the complete side where a window has so many."""
    return max(cells, round(length * cells / window))


def _cell(start: int, last: int, last_cell: int) -> int:
    """The first cell of a window; that of the last window is the last one that leaves room for its cells."""
    return round(start * last_cell / last) if last else 0
