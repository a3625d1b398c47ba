"""Scores of the network's features."""

import math

import torch
from torch import Tensor

from ripu_lightning.acquisition.functional.logit_tiles import check_finite, check_maps, score_dtype
from ripu_lightning.errors import require_number

BORDER = 1e-3
"""Least distance of a point from the border of the unit ball, as in the code of HALO's authors."""


@torch.no_grad()
def poincare_radius(features: Tensor, curvature: float = 1.0) -> Tensor:
    """Distance of each pixel's hyperbolic feature from the origin of the Poincaré ball of curvature ``-c``.

    HALO (Franco et al., ICML 2024, arXiv 2306.11180) takes a feature ``v`` as a tangent vector at the origin: the
    exponential map puts it at ``x = tanh(sqrt(c) |v|) v / (sqrt(c) |v|)``, kept to ``|x| <= (1 - 1e-3) / sqrt(c)``,
    at the distance ``2 / sqrt(c) artanh(sqrt(c) |x|)``. That is ``min(2 |v|, 2 / sqrt(c) artanh(1 - 1e-3))``.

    Args:
        features: ``(B, D, h, w)``, any floating dtype, finite.
        curvature: ``c``, above 0.

    Returns:
        ``(B, h, w)``, float32 (float64 for float64 features).

    Raises:
        ValueError: not a ``(B, D, h, w)`` floating tensor, empty, NaN or infinite features.
        InvalidArgument: a curvature that is not above 0.

    >>> poincare_radius(torch.tensor([[3.0, 30.0], [4.0, 40.0]]).reshape(1, 2, 1, 2) / 10)
    tensor([[[1.0000, 7.6004]]])
    """
    check_maps(features, "features", "B, D, h, w")
    require_number("poincare_radius", "curvature", curvature, above=True)
    norm: Tensor = torch.linalg.vector_norm(features, dim=1, dtype=score_dtype(features))
    check_finite(norm, "features")
    return norm.mul_(2).clamp_(max=2 / math.sqrt(curvature) * math.atanh(1 - BORDER))
