"""Reads logits in tiles that stay in the processor's cache, and checks them."""

from collections.abc import Iterator
from typing import TypeAlias

import torch
from torch import Tensor

Tile: TypeAlias = tuple[slice, slice]
"""Images and rows of a map ``(B, H, W)``."""


def score_dtype(values: Tensor) -> torch.dtype:
    """float64 for float64, else float32: sums in half precision would change picks."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def empty_scores(logits: Tensor) -> Tensor:
    """An uninitialised score map ``(B, H, W)`` for logits ``(B, C, H, W)``."""
    batch, _, height, width = logits.shape
    return torch.empty((batch, height, width), dtype=score_dtype(logits), device=logits.device)


def tiles(batch: int, height: int, row_bytes: int, device: torch.device, at_least: int = 1) -> list[Tile]:
    """Cut maps ``(B, H, W)`` so that the work on one tile takes about 10 MB on a CPU (its cache), else 512 MB.

    A tile holds rows of one image, so that the order of the sums, and with it the last bit of a score, does not depend
    on the batch.

    ``row_bytes`` is the memory that one row of an image takes, ``at_least`` the least number of rows in a tile.

    Inside ``torch.compile``, which fuses the steps itself, one tile covers everything.

    >>> tiles(1, 5, 4 << 20, torch.device("cpu"))
    [(slice(0, 1, None), slice(0, 2, None)),
     (slice(0, 1, None), slice(2, 4, None)),
     (slice(0, 1, None), slice(4, 6, None))]
    """
    if torch.compiler.is_compiling():
        return [(slice(None), slice(None))]
    budget = (10 if device.type == "cpu" else 512) << 20
    rows = max(budget // row_bytes, at_least, 1)
    slices = [slice(top, top + rows) for top in range(0, height, rows)]
    return [(slice(image, image + 1), part) for image in range(batch) for part in slices]


def shifted_tiles(logits: Tensor, probabilities: bool, scaled: bool = True) -> Iterator[tuple[Tile, Tensor]]:
    """Read ``(B, C, H, W)`` once: each tile, and its logits minus the pixel's largest logit ``(b, C, h, W)``.

    The values are at most 0, and 0 at the predicted class; they are overwritten by the next tile.
    ``scaled`` probabilities sum to 1; the others are weights in any unit. NaN, infinite logits and wrong probabilities
    raise ValueError.
    """
    # One buffer for all tiles: to free and allocate memory again costs more than the arithmetic.
    buffer = torch.empty(0)
    batch, classes, height, width = logits.shape
    row_bytes = 2 * classes * width * score_dtype(logits).itemsize
    for tile in tiles(batch, height, row_bytes, logits.device):
        images, rows = tile
        part = logits[images, :, rows]
        if part.numel() > buffer.numel():
            buffer = torch.empty(part.shape, dtype=score_dtype(logits), device=logits.device)
        values = buffer[:, :, : part.shape[2]].copy_(part)
        largest = values.amax(dim=1, keepdim=True)
        if probabilities:
            if scaled:
                _check_probabilities(values, logits.dtype)
            # The ratio rounds to 1 only where p is the largest one: the predicted class is kept exactly.
            values.div_(largest).clamp_(min=torch.finfo(values.dtype).tiny).log_()
        else:
            values.sub_(largest)
            # NaN or -inf as soon as one logit is NaN, inf or -inf.
            check_finite(values.amin(), "logits")
        yield tile, values


def check_logits(logits: Tensor) -> None:
    """Raise ValueError unless ``logits`` is a floating ``(B, C, H, W)`` with two or more classes and not empty."""
    check_maps(logits, "logits", "B, C, H, W")
    if logits.shape[1] < 2:
        raise ValueError(f"expected at least 2 classes, got logits of shape {tuple(logits.shape)}")


def check_maps(values: Tensor, name: str, shape: str) -> None:
    """Raise ValueError unless ``values`` is floating, has the dimensions of ``shape`` and is not empty."""
    if values.ndim != len(shape.split(",")) or not values.is_floating_point():
        raise ValueError(f"expected floating-point {name} ({shape}), got {values.dtype} of shape {tuple(values.shape)}")
    if values.numel() == 0:
        raise ValueError(f"expected {name} ({shape}) that are not empty, got shape {tuple(values.shape)}")


def check_finite(values: Tensor, name: str) -> None:
    """Raise ValueError for NaN and infinities; inside ``torch.compile`` nothing is checked."""
    if not torch.compiler.is_compiling() and not torch.isfinite(values).all():
        raise ValueError(f"expected finite {name}, got NaN or infinity")


def _check_probabilities(values: Tensor, dtype: torch.dtype) -> None:
    if torch.compiler.is_compiling():
        return
    low, error = values.amin().item(), (values.sum(dim=1) - 1).abs_().amax().item()
    # bfloat16 has about two and a half decimal digits.
    if not (low >= 0 and error <= max(1e-3, torch.finfo(dtype).eps)):
        raise ValueError(
            f"expected probabilities of 0 or more that sum to 1 over the classes, "
            f"got a smallest value of {low:.4g} and a sum that is off by {error:.4g}"
        )
