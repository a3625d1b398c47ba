"""Losses: pure functions in ``functional``, terms of a training step, and their weighted sum."""

from ripu_lightning.losses import functional
from ripu_lightning.losses.terms import (
    ClassMix,
    LocalConsistency,
    LossTerm,
    NegativeLearning,
    PseudoLabels,
    SourceCrossEntropy,
    StepOutputs,
    TargetCrossEntropy,
)
from ripu_lightning.losses.weighted import WeightedLosses

__all__ = [
    "ClassMix",
    "LocalConsistency",
    "LossTerm",
    "NegativeLearning",
    "PseudoLabels",
    "SourceCrossEntropy",
    "StepOutputs",
    "TargetCrossEntropy",
    "WeightedLosses",
    "functional",
]
