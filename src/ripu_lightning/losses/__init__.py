"""Losses: pure functions in ``functional``, terms of a training step, and their weighted sum."""

from ripu_lightning.losses import functional
from ripu_lightning.losses.label_terms import (
    BoundaryCrossEntropy,
    CrossEntropy,
    Dice,
    LabelTerm,
    LovaszSoftmax,
    OhemCrossEntropy,
    SourceCrossEntropy,
    TargetCrossEntropy,
)
from ripu_lightning.losses.terms import (
    AdaptivePseudoLabels,
    ClassMix,
    LocalConsistency,
    LossTerm,
    NegativeLearning,
    PseudoLabels,
    StepOutputs,
)
from ripu_lightning.losses.weighted import WeightedLosses

__all__ = [
    "AdaptivePseudoLabels",
    "BoundaryCrossEntropy",
    "ClassMix",
    "CrossEntropy",
    "Dice",
    "LabelTerm",
    "LocalConsistency",
    "LossTerm",
    "LovaszSoftmax",
    "NegativeLearning",
    "OhemCrossEntropy",
    "PseudoLabels",
    "SourceCrossEntropy",
    "StepOutputs",
    "TargetCrossEntropy",
    "WeightedLosses",
    "functional",
]
