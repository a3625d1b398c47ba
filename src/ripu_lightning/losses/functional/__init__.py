"""The losses as pure functions of logits ``(B, C, H, W)`` and labels ``(B, H, W)``; they need torch alone.

All compute in float32 (float64 stays float64) and return a scalar. A loss over no pixels is 0 with zero gradients.
Shapes, dtypes and values other than those described raise ValueError.
"""

from ripu_lightning.losses.functional.cross_entropies import (
    balanced_weights,
    boundary_cross_entropy,
    cross_entropy,
    near_boundary,
    ohem_cross_entropy,
)
from ripu_lightning.losses.functional.inputs import IGNORE
from ripu_lightning.losses.functional.overlap import dice, lovasz_softmax
from ripu_lightning.losses.functional.ripu import Boundary, Norm, boundary_mask, local_consistency, negative_learning
from ripu_lightning.losses.functional.teacher_labels import adapted_thresholds, pseudo_labels, segment_evidence

__all__ = [
    "IGNORE",
    "Boundary",
    "Norm",
    "adapted_thresholds",
    "balanced_weights",
    "boundary_cross_entropy",
    "boundary_mask",
    "cross_entropy",
    "dice",
    "local_consistency",
    "lovasz_softmax",
    "near_boundary",
    "negative_learning",
    "ohem_cross_entropy",
    "pseudo_labels",
    "segment_evidence",
]
