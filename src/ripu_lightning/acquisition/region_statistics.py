"""Statistics of regions: the dominant predicted class, the mean features, the mean of any map."""

import torch
from torch import Tensor

Members = tuple[Tensor, Tensor]
"""Flat pixels ``(m,)`` and the row of each pixel's region: see ``RegionType.members``."""


def dominant_classes(logits: Tensor, members: Members, count: int) -> Tensor:
    """The class predicted for most of a region's pixels, the lower of equals: logits ``(C, H, W)`` -> ``(n,)`` int16.

    >>> logits = torch.tensor([[[0.0, 0.0, 5.0]], [[1.0, 1.0, 0.0]]])
    >>> dominant_classes(logits, (torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1])), 2).tolist()
    [1, 0]
    """
    pixels, rows = members
    classes = logits.shape[0]
    predicted = logits.reshape(classes, -1)[:, pixels].argmax(dim=0)
    votes = torch.bincount(rows * classes + predicted, minlength=count * classes).reshape(count, classes)
    return votes.argmax(dim=1).to(torch.int16)


def mean_over(values: Tensor, members: Members, count: int) -> Tensor:
    """Means ``(n, K)`` of maps ``(K, H, W)`` over regions, float32, summed in float64."""
    pixels, rows = members
    flat = values.reshape(values.shape[0], -1)[:, pixels].double().T
    total = flat.new_zeros((count, values.shape[0])).index_add_(0, rows, flat)
    return (total / _sizes(rows, count)).float()


def mean_features(features: Tensor, members: Members, count: int, shape: tuple[int, int]) -> Tensor:
    """Mean features ``(n, D)`` float32 over regions of an image of ``shape`` ``(H, W)``.

    ``features`` ``(D, h, w)`` are coarser: each pixel has the features of its cell.
    """
    pixels, rows = members
    depth, height, width = features.shape
    cell = (pixels // shape[1]) * height // shape[0] * width + (pixels % shape[1]) * width // shape[1]
    # Pixels are counted by (region, cell) first, so that features are read once a cell and not once a pixel.
    pair, times = _run_lengths((rows * (height * width) + cell).sort().values)
    row, cell = pair // (height * width), pair % (height * width)
    total = features.new_zeros((count, depth), dtype=torch.float64)
    seen = features.reshape(depth, -1)[:, cell].T.double()  # only the cells that are read, not the complete map
    total.index_add_(0, row, seen.mul_(times[:, None]))
    return (total / _sizes(rows, count)).float()


def _run_lengths(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct values of a sorted vector, and how often each occurs."""
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    start = new.nonzero()[:, 0]
    return ordered[start], torch.diff(start, append=start.new_tensor([len(ordered)]))


def _sizes(rows: Tensor, count: int) -> Tensor:
    return torch.bincount(rows, minlength=count).clamp_(min=1)[:, None]
