"""RIPU's scores: how mixed and how uncertain the square around a pixel is.

Xie et al., CVPR 2022 (arXiv 2111.12940), section 3.2. The square of radius ``k`` is clipped to the image, and
means divide by its true count.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ripu_lightning.acquisition.functional.logit_tiles import check_logits, empty_scores, shifted_tiles
from ripu_lightning.acquisition.functional.pixel_scores import entropy, entropy_of
from ripu_lightning.acquisition.functional.windows import (
    box_count,
    box_reduce,
    check_radius,
    smallest_int,
    strips,
    widened,
    window_count,
)


@torch.no_grad()
def region_impurity(
    logits: Tensor, radius: int = 1, normalize: bool = True, eps: float = 0.0, *, probabilities: bool = False
) -> Tensor:
    """Entropy of the predicted classes in the square of radius ``k`` (eq. 2): how mixed the neighbourhood is.

    ``P = -sum_c q_c log(q_c + eps)``, where ``q_c`` is the share of pixels in the clipped square predicted as ``c``;
    of equal logits the first class is the predicted one.

    Args:
        logits: ``(B, C, H, W)``.
        radius: ``k``; the square has side ``2k + 1`` and must fit into the image.
        normalize: divide by ``log C`` (range 0..1).
        eps: as in :func:`entropy`.
        probabilities: as in :func:`entropy`.

    Returns:
        ``(B, H, W)``; exactly 0 where the square is pure and ``eps`` is 0.

    Raises:
        ValueError: as :func:`entropy`, or a square larger than the image.

    >>> logits = torch.eye(2)[torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 1]])].permute(2, 0, 1)[None]
    >>> region_impurity(logits, radius=1)[0, 1]
    tensor([0.0000, 0.9183, 1.0000])
    """
    check_logits(logits)
    check_radius("region_impurity", logits, radius)
    result = empty_scores(logits)
    _fill_impurity(result, _predicted(logits, radius, probabilities), logits.shape[1], radius, eps)
    return result.div_(math.log(logits.shape[1])) if normalize else result


@torch.no_grad()
def region_uncertainty(
    logits: Tensor, radius: int = 1, normalize: bool = True, eps: float = 0.0, *, probabilities: bool = False
) -> Tensor:
    """Mean prediction entropy over the square of radius ``k`` (eq. 3).

    Args, returns and errors as :func:`region_impurity`.

    >>> logits = torch.zeros(1, 2, 3, 3)
    >>> logits[0, 0, 1, 1] = 100
    >>> region_uncertainty(logits, radius=1)[0, 1]
    tensor([0.8333, 0.8889, 0.8333])
    """
    check_logits(logits)
    check_radius("region_uncertainty", logits, radius)
    return box_reduce(entropy(logits, normalize, eps, probabilities=probabilities), radius, "mean")


@torch.no_grad()
def ripu(logits: Tensor, radius: int = 1, eps: float = 0.0, *, probabilities: bool = False) -> Tensor:
    """RIPU's region-based score: impurity times uncertainty, both divided by ``log C`` (eq. 1).

    Args, returns and errors as :func:`region_impurity`.

    >>> logits = torch.eye(2)[torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 1]])].permute(2, 0, 1)[None]
    >>> ripu(logits, radius=1)[0, 1]
    tensor([0.0000, 0.7714, 0.8400])
    """
    impurity, pixel = _impurity_and_entropy("ripu", logits, radius, eps, probabilities)
    return impurity.mul_(box_reduce(pixel, radius, "mean")).div_(math.log(logits.shape[1]) ** 2)


@torch.no_grad()
def ripu_point(logits: Tensor, radius: int = 32, eps: float = 0.0, *, probabilities: bool = False) -> Tensor:
    """RIPU's pixel-based score: region impurity times the entropy of the pixel itself, in nats squared.

    Args, returns and errors as :func:`region_impurity`.

    >>> logits = torch.eye(2)[torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 1]])].permute(2, 0, 1)[None]
    >>> ripu_point(logits, radius=1)[0, 1]
    tensor([0.0000, 0.3706, 0.4036])
    """
    impurity, pixel = _impurity_and_entropy("ripu_point", logits, radius, eps, probabilities)
    return impurity.mul_(pixel)


def _impurity_and_entropy(
    owner: str, logits: Tensor, radius: int, eps: float, probabilities: bool
) -> tuple[Tensor, Tensor]:
    """Both in nats, ``(B, H, W)``, from one reading of the logits."""
    check_logits(logits)
    check_radius(owner, logits, radius)
    impurity, pixel = empty_scores(logits), empty_scores(logits)
    _fill_impurity(impurity, _predicted(logits, radius, probabilities, pixel, eps), logits.shape[1], radius, eps)
    return impurity, pixel


def _predicted(
    logits: Tensor, radius: int, probabilities: bool, entropies: Tensor | None = None, eps: float = 0.0
) -> Tensor:
    """Predicted classes with a border of C around the image, ``(B, H + 2k, W + 2k)``; fills ``entropies`` too."""
    batch, classes, height, width = logits.shape
    result = torch.full(
        (batch, height + 2 * radius, width + 2 * radius),
        classes,
        dtype=smallest_int(classes),
        device=logits.device,
    )
    inner = result[:, radius : radius + height, radius : radius + width]
    for tile, values in shifted_tiles(logits, probabilities):
        inner[tile] = _first_zero(values)
        if entropies is not None:
            entropies[tile] = entropy_of(values, eps)
    return result


def _first_zero(values: Tensor) -> Tensor:
    """The first class whose value is 0, ``(b, C, h, W)`` -> ``(b, h, W)``: argmax in narrow integers, much faster."""
    classes = values.shape[1]
    rank = torch.arange(classes - 1, -1, -1, dtype=smallest_int(classes), device=values.device)
    zero = values.logical_not().view(torch.uint8)
    return (classes - 1) - (zero * rank[:, None, None]).amax(dim=1)


def _fill_impurity(result: Tensor, predicted: Tensor, classes: int, radius: int, eps: float) -> None:
    """Region impurity in nats, strip by strip and class by class: no ``(B, C, H, W)`` one-hot in memory."""
    count = window_count(result, radius)
    impurity = _impurity if radius != 1 or torch.compiler.is_compiling() else _impurity_of_nine
    for tile in strips(result, radius):
        _, rows = tile
        result[tile] = impurity(predicted[widened(tile, radius)], count[rows], classes, radius, eps)


def _impurity(labels: Tensor, count: Tensor, classes: int, radius: int, eps: float) -> Tensor:
    result = torch.zeros((len(labels), *count.shape), dtype=count.dtype, device=count.device)
    share = torch.empty_like(result)
    for inside in _class_counts(labels, classes, radius):
        share.copy_(inside).div_(count)
        # 1e-30 vanishes next to any share above 0: it changes only 0 log 0, which becomes 0.
        result.addcmul_(share, (share + (eps or 1e-30)).log_(), value=-1)
    return result


def _impurity_of_nine(labels: Tensor, count: Tensor, classes: int, radius: int, eps: float) -> Tensor:
    """As :func:`_impurity` for k = 1, from a table: twice as fast, because it stays in bytes and takes no logarithm.

    The 4, 6 or 9 pixels of a square can be split among classes in 46 ways, which :func:`_code` distinguishes.
    """
    code = torch.zeros((len(labels), *count.shape), dtype=torch.uint8, device=labels.device)
    for inside in _class_counts(labels, classes, radius):
        code += inside * inside * (inside + 9)  # modulo 256, as in _code
    table = torch.zeros(10, 256, dtype=torch.float64)
    for pixels in (4, 6, 9):
        for split in _splits(pixels):
            shares = torch.tensor(split, dtype=torch.float64) / pixels
            table[pixels, _code(split)] = -(shares * (shares + eps).log()).sum()
    index = code.to(torch.int32) + 256 * count.to(torch.int32)
    return table.to(count).reshape(-1).index_select(0, index.reshape(-1)).reshape(code.shape)


def _class_counts(labels: Tensor, classes: int, radius: int) -> Iterator[Tensor]:
    """Pixels of a class in the square around each pixel, for every class that occurs."""
    for index in range(classes):
        same = (labels ^ index).logical_not().view(torch.uint8)  # == and any() are not vectorised: five times slower
        if torch.compiler.is_compiling() or same.amax():
            yield box_count(same, radius)


def _code(split: list[int]) -> int:
    """A number below 256, another one for every split of 4, of 6 and of 9 pixels.

    >>> [len({_code(split) for split in _splits(pixels)}) == len(list(_splits(pixels))) for pixels in (4, 6, 9)]
    [True, True, True]
    """
    return sum(part * part * (part + 9) for part in split) % 256


def _splits(pixels: int, largest: int | None = None) -> Iterator[list[int]]:
    """The ways to split a number of pixels among classes.

    >>> list(_splits(4))
    [[4], [3, 1], [2, 2], [2, 1, 1], [1, 1, 1, 1]]
    """
    if pixels == 0:
        yield []
    for first in range(min(pixels, largest or pixels), 0, -1):
        for rest in _splits(pixels - first, first):
            yield [first, *rest]
