"""Square windows around pixels: where they are clipped by the image, and fast sums over them.

A sum over a window of 2k + 1 takes about 2 log2(2k + 1) additions of shifted maps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ripu_lightning.acquisition.functional.logit_tiles import Tile, tiles
from ripu_lightning.errors import InvalidArgument


def clipped_spans(size: int, radius: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """First and one past the last position of the window ``i - k .. i + k`` around each ``i`` in ``0..size - 1``.

    >>> clipped_spans(4, radius=1)
    (tensor([0, 0, 1, 2]), tensor([2, 3, 4, 4]))
    """
    position = torch.arange(size, device=device)
    return (position - radius).clamp(min=0), (position + radius + 1).clamp(max=size)


def square_boxes(positions: Tensor, radius: int, shape: tuple[int, int]) -> Tensor:
    """Boxes ``(n, 4)`` (top, left, height, width) of the clipped squares around flat positions ``(n,)``.

    >>> square_boxes(torch.tensor([0, 5]), radius=1, shape=(3, 4)).tolist()
    [[0, 0, 2, 2], [0, 0, 3, 3]]
    """
    ends = [clipped_spans(size, radius, positions.device) for size in shape]
    centres = positions // shape[1], positions % shape[1]
    first = torch.stack([low[centre] for (low, _), centre in zip(ends, centres, strict=True)], dim=1)
    stop = torch.stack([high[centre] for (_, high), centre in zip(ends, centres, strict=True)], dim=1)
    return torch.cat((first, stop - first), dim=1)


def window_count(like: Tensor, radius: int) -> Tensor:
    """Pixels in each clipped square, ``(H, W)`` in the type of ``like`` ``(..., H, W)``."""
    spans = [clipped_spans(size, radius, like.device) for size in like.shape[-2:]]
    rows, columns = ((stop - first).to(like.dtype) for first, stop in spans)
    return rows[:, None] * columns


def check_radius(owner: str, values: Tensor, radius: int) -> None:
    """Raise :class:`InvalidArgument` unless a square of this radius fits into the image ``(..., H, W)``."""
    height, width = values.shape[-2:]
    if radius < 0 or 2 * radius + 1 > min(height, width):
        most = (min(height, width) - 1) // 2
        raise InvalidArgument(owner, "radius", f"must be 0 to {most} in an image of {height}x{width}, got {radius}")


def smallest_int(largest: int) -> torch.dtype:
    """The narrowest, which is the fastest, integer type that holds 0..``largest``.

    >>> smallest_int(255), smallest_int(256)
    (torch.uint8, torch.int16)
    """
    return torch.uint8 if largest <= 255 else torch.int16 if largest <= 32767 else torch.int32


def strips(values: Tensor, radius: int) -> list[Tile]:
    """Tiles of ``(B, H, W)`` for sums over squares; high enough that the borders they share cost little."""
    batch, height, width = values.shape
    return tiles(batch, height, 5 * width * values.itemsize, values.device, at_least=2 * radius)


def widened(tile: Tile, radius: int) -> Tile:
    """The part of a map with a border of k that holds the squares around a tile's pixels."""
    images, rows = tile
    return images, slice(rows.start, None if rows.stop is None else rows.stop + 2 * radius)


def box_count(mask: Tensor, radius: int) -> Tensor:
    """Number of ones in the square around each pixel: uint8 ``(B, h + 2k, W + 2k)`` of 0 and 1 -> ``(B, h, W)``."""
    side = 2 * radius + 1
    columns = _widen(mask.to(smallest_int(side)), radius, -2, torch.add)
    return _widen(columns.to(smallest_int(side**2)), radius, -1, torch.add)


def box_reduce(values: Tensor, radius: int, reduce: str) -> Tensor:
    """Mean, sum or maximum over the clipped square, ``(B, H, W)`` -> ``(B, H, W)``."""
    combine, border = (torch.maximum, -torch.inf) if reduce == "max" else (torch.add, 0.0)
    padded = torch.nn.functional.pad(values, (radius,) * 4, value=border)
    result = torch.empty_like(values)
    for tile in strips(values, radius):
        strip = padded[widened(tile, radius)]
        result[tile] = _widen(_widen(strip, radius, -2, combine), radius, -1, combine)
    return result.div_(window_count(values, radius)) if reduce == "mean" else result


def _widen(values: Tensor, radius: int, dim: int, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine each window of 2k + 1 along ``dim``; that dimension becomes shorter by 2k.

    ``power`` holds the windows of width 1, 2, 4, ...; the windows of the binary digits of 2k + 1 are joined.
    """
    side = 2 * radius + 1
    length = values.shape[dim] - side + 1
    result, power, width, done = values.narrow(dim, 0, length), values, 1, 1
    while done < side:
        rest = power.shape[dim] - width
        power = combine(power.narrow(dim, 0, rest), power.narrow(dim, width, rest))
        width *= 2
        if side & width:
            result = combine(result, power.narrow(dim, done, length))
            done += width
    return result
