"""Acquisition scores as pure functions: logits ``(B, C, H, W)`` in, one score a pixel ``(B, H, W)`` out.

Scores are float32 (float64 for float64 logits), whatever the logits' precision: half-precision sums would
change picks. The square of radius ``k`` around a pixel is clipped to the image, and means divide by its true
count. Formulas: Xie et al., CVPR 2022 (arXiv 2111.12940), section 3.2.
"""

import math

import torch
from torch import Tensor

PUBLIC_EPS = 1e-6
"""What the authors' code adds inside logarithms; pass it as ``eps`` to reproduce that code."""


def entropy(logits: Tensor, normalize: bool = True, eps: float = 0.0) -> Tensor:
    """Entropy of the predicted class distribution, ``H = -sum_c p_c log(p_c + eps)``.

    Args:
        logits: ``(B, C, H, W)``, any floating dtype, finite.
        normalize: divide by ``log C``, so that the range is 0..1; otherwise nats.
        eps: added inside the logarithm; 0 is exact, :data:`PUBLIC_EPS` matches the authors' code.

    Returns:
        ``(B, H, W)``.

    Raises:
        ValueError: not a ``(B, C, H, W)`` floating tensor, or fewer than two classes.

    >>> entropy(torch.tensor([0.0, 0.0]).reshape(1, 2, 1, 1)).item()
    1.0
    """
    _check_logits(logits)
    if eps:
        p = _full_precision(logits).softmax(dim=1)
        result = -(p * (p + eps).log_()).sum(dim=1)
    else:
        # log sum_c e^x - sum_c p x, with x shifted by its maximum: two (B, C, H, W) buffers at most.
        shifted = _full_precision(logits) - _full_precision(logits.amax(dim=1, keepdim=True))
        weights = shifted.exp()
        total = weights.sum(dim=1)
        result = total.log() - weights.mul_(shifted).sum(dim=1).div_(total)
        result.clamp_(min=0)
    return result / math.log(logits.shape[1]) if normalize else result


def region_impurity(logits: Tensor, radius: int = 1, normalize: bool = True, eps: float = 0.0) -> Tensor:
    """Entropy of the predicted classes in the square of radius ``k`` (eq. 2): how mixed the neighbourhood is.

    ``P = -sum_c q_c log(q_c + eps)``, where ``q_c`` is the share of pixels in the clipped square predicted as ``c``.

    Args:
        logits: ``(B, C, H, W)``.
        radius: ``k``; the square has side ``2k + 1`` and must fit into the image.
        normalize: divide by ``log C`` (range 0..1).
        eps: as in :func:`entropy`.

    Returns:
        ``(B, H, W)``; exactly 0 where the square is pure and ``eps`` is 0.

    Raises:
        ValueError: wrong shape, fewer than two classes, or a square larger than the image.

    >>> logits = torch.eye(2)[torch.tensor([[0, 0, 1], [0, 0, 1], [0, 0, 1]])].permute(2, 0, 1)[None]
    >>> region_impurity(logits, radius=1)[0, 1]
    tensor([0.0000, 0.9183, 1.0000])
    """
    _check_logits(logits)
    _check_radius(logits, radius)
    predicted = logits.argmax(dim=1)
    count = _window_count(predicted, radius)
    result = torch.zeros(predicted.shape, dtype=_dtype(logits), device=logits.device)
    for index in range(logits.shape[1]):  # class by class: no (B, C, H, W) one-hot in memory
        share = _box_sum((predicted == index).to(torch.int32), radius) / count
        if eps:
            result -= share * (share + eps).log_()
        else:
            result += torch.special.entr(share)
    return result / math.log(logits.shape[1]) if normalize else result


def region_uncertainty(logits: Tensor, radius: int = 1, normalize: bool = True, eps: float = 0.0) -> Tensor:
    """Mean prediction entropy over the square of radius ``k`` (eq. 3).

    Args, returns and errors as :func:`region_impurity`.
    """
    _check_logits(logits)
    _check_radius(logits, radius)
    pixel = entropy(logits, normalize=normalize, eps=eps)
    # float64 sums: running sums along 2048 pixels in float32 would cost the fifth digit.
    return (_box_sum(pixel.double(), radius) / _window_count(pixel, radius)).to(pixel.dtype)


def ripu(logits: Tensor, radius: int = 1, eps: float = 0.0) -> Tensor:
    """RIPU's region-based score: impurity times uncertainty, both divided by ``log C`` (eq. 1).

    Args, returns and errors as :func:`region_impurity`.
    """
    return region_impurity(logits, radius, eps=eps) * region_uncertainty(logits, radius, eps=eps)


def ripu_point(logits: Tensor, radius: int = 32, eps: float = 0.0) -> Tensor:
    """RIPU's pixel-based score: region impurity times the entropy of the pixel itself, in nats squared.

    Args, returns and errors as :func:`region_impurity`.
    """
    impurity = region_impurity(logits, radius, normalize=False, eps=eps)
    return impurity * entropy(logits, normalize=False, eps=eps)


def _box_sum(values: Tensor, radius: int) -> Tensor:
    """Sum over the clipped square, ``(B, H, W)`` -> ``(B, H, W)``, at a cost that does not depend on the radius."""
    for dim in (1, 2):
        size = values.shape[dim]
        total = torch.nn.functional.pad(values.cumsum(dim, dtype=values.dtype), (1, 0) if dim == 2 else (0, 0, 1, 0))
        position = torch.arange(size, device=values.device)
        upper = (position + radius + 1).clamp_(max=size)
        lower = (position - radius).clamp_(min=0)
        values = total.index_select(dim, upper) - total.index_select(dim, lower)
    return values


def _window_count(like: Tensor, radius: int) -> Tensor:
    """Pixels in each clipped square, ``(1, H, W)`` int32."""
    height, width = like.shape[-2:]
    return _box_sum(torch.ones((1, height, width), dtype=torch.int32, device=like.device), radius)


def _dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _full_precision(logits: Tensor) -> Tensor:
    return logits.to(_dtype(logits))


def _check_logits(logits: Tensor) -> None:
    if logits.ndim != 4 or not logits.is_floating_point():
        raise ValueError(
            f"expected floating-point logits (B, C, H, W), got {logits.dtype} of shape {tuple(logits.shape)}"
        )
    if logits.shape[1] < 2:
        raise ValueError(f"expected at least 2 classes, got logits of shape {tuple(logits.shape)}")


def _check_radius(logits: Tensor, radius: int) -> None:
    height, width = logits.shape[-2:]
    if radius < 0 or 2 * radius + 1 > min(height, width):
        raise ValueError(
            f"expected 0 <= radius with a square of 2*radius+1 <= {min(height, width)} pixels "
            f"in an image of {height}x{width}, got radius {radius}"
        )
