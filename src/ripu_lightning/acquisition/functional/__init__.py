"""Acquisition scores as pure functions: logits ``(B, C, H, W)`` in, one score a pixel ``(B, H, W)`` out.

Pixels with higher scores are queried first. Scores are float32 (float64 for float64 logits), because sums in half
precision would change picks; they carry no gradient. Every function that takes logits also takes probabilities
(``probabilities=True``) and runs inside ``torch.compile`` as one graph, where the values (NaN, infinities, sums of
probabilities) are not checked.

Logits are read once, in tiles that fit into the processor's cache, so a score needs little memory besides its map.
"""

from ripu_lightning.acquisition.functional.feature_scores import poincare_radius
from ripu_lightning.acquisition.functional.pixel_scores import (
    PUBLIC_EPS,
    best_versus_second_best,
    entropy,
    least_confidence,
    margin,
)
from ripu_lightning.acquisition.functional.region_scores import region_impurity, region_uncertainty, ripu, ripu_point
from ripu_lightning.acquisition.functional.sample_scores import bald, mirror_disagreement, predictive_entropy
from ripu_lightning.acquisition.functional.score_pooling import pool_image, pool_regions, pool_square

__all__ = [
    "PUBLIC_EPS",
    "bald",
    "best_versus_second_best",
    "entropy",
    "least_confidence",
    "margin",
    "mirror_disagreement",
    "poincare_radius",
    "pool_image",
    "pool_regions",
    "pool_square",
    "predictive_entropy",
    "region_impurity",
    "region_uncertainty",
    "ripu",
    "ripu_point",
]
