"""Losses: pure functions in ``functional``, terms of a training step, and their weighted sum."""

from ripu_lightning.losses import functional
from ripu_lightning.losses.modules import (
    LocalConsistency,
    LossTerm,
    NegativeLearning,
    SourceCrossEntropy,
    StepOutputs,
    TargetCrossEntropy,
    WeightedLosses,
)

__all__ = [
    "LocalConsistency",
    "LossTerm",
    "NegativeLearning",
    "SourceCrossEntropy",
    "StepOutputs",
    "TargetCrossEntropy",
    "WeightedLosses",
    "functional",
]
