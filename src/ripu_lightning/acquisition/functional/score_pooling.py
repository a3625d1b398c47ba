"""Scores of squares, of regions of any shape and of images, from the scores of their pixels."""

import torch
from torch import Tensor

from ripu_lightning.acquisition.functional.logit_tiles import check_finite, check_maps, score_dtype
from ripu_lightning.acquisition.functional.windows import box_reduce, check_radius
from ripu_lightning.errors import require_choice


@torch.no_grad()
def pool_square(scores: Tensor, radius: int, reduce: str = "mean") -> Tensor:
    """Score of the square of radius ``k`` around each pixel, clipped to the image.

    Args:
        scores: ``(B, H, W)``, any floating dtype, finite.
        radius: ``k``; the square has side ``2k + 1`` and must fit into the image.
        reduce: ``"mean"`` (over the true count of pixels), ``"max"`` or ``"sum"``.

    Returns:
        ``(B, H, W)``, float32 (float64 for float64 scores).

    Raises:
        ValueError: not a ``(B, H, W)`` floating tensor, empty, NaN or infinite scores.
        InvalidArgument: another ``reduce``, or a square larger than the image.

    >>> pool_square(torch.arange(9.0).reshape(1, 3, 3), radius=1)[0, 1]
    tensor([3.5000, 4.0000, 4.5000])
    """
    _check("pool_square", scores, reduce)
    check_radius("pool_square", scores, radius)
    return box_reduce(scores.to(score_dtype(scores)), radius, reduce)


@torch.no_grad()
def pool_regions(scores: Tensor, regions: Tensor, reduce: str = "mean") -> Tensor:
    """Score of each region, for regions of any shape such as superpixels.

    Sums are float64 inside, so that the result hardly depends on the order of the pixels.

    Args:
        scores: as in :func:`pool_square`.
        regions: ``(B, H, W)`` int64, the id of each pixel's region from 0 on; negative: in no region.
        reduce: as in :func:`pool_square`.

    Returns:
        ``(B, R)``, R one more than the largest id in the batch; ``-inf`` for a region without pixels.

    Raises:
        ValueError: as :func:`pool_square`, and for regions that are not int64 or have another shape.

    >>> pool_regions(torch.tensor([[[1.0, 2.0, 5.0, 9.0]]]), torch.tensor([[[0, 0, 2, -1]]]))
    tensor([[1.5000,   -inf, 5.0000]])
    """
    _check("pool_regions", scores, reduce)
    if regions.shape != scores.shape or regions.dtype != torch.int64:
        raise ValueError(
            f"expected regions as int64 {tuple(scores.shape)}, got {regions.dtype} of shape {tuple(regions.shape)}"
        )
    count = max(int(regions.amax()) + 1, 0)
    # Pixels of no region go into an extra region, which is dropped at the end.
    index = torch.where(regions < 0, count, regions).flatten(1)
    values = scores.double().flatten(1)
    shape = (len(scores), count + 1)
    if reduce == "max":
        result = values.new_full(shape, -torch.inf).scatter_reduce_(1, index, values, "amax")
    else:
        result = values.new_zeros(shape).scatter_add_(1, index, values)
        pixels = values.new_zeros(shape).scatter_add_(1, index, torch.ones_like(values))
        if reduce == "mean":
            result /= pixels
        result.masked_fill_(pixels == 0, -torch.inf)
    return result[:, :count].to(score_dtype(scores))


@torch.no_grad()
def pool_image(scores: Tensor, reduce: str = "mean") -> Tensor:
    """Score of each image, ``(B, H, W)`` -> ``(B,)``; sums are float64 inside. Args and errors as :func:`pool_square`.

    >>> pool_image(torch.tensor([[[1.0, 2.0, 6.0]]]))
    tensor([3.])
    """
    _check("pool_image", scores, reduce)
    pixels = scores.flatten(1)
    if reduce == "max":
        result = pixels.amax(dim=1)
    else:
        result = pixels.sum(dim=1, dtype=torch.float64)
        if reduce == "mean":
            result /= pixels.shape[1]
    return result.to(score_dtype(scores))


def _check(owner: str, scores: Tensor, reduce: str) -> None:
    check_maps(scores, "scores", "B, H, W")
    check_finite(scores, "scores")
    require_choice(owner, "reduce", reduce, ("mean", "max", "sum"))
