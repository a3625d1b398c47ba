"""The losses as terms of a training step, and their weighted sum, composed by name in a config."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor, nn

from ripu_lightning.errors import UserError, suggest
from ripu_lightning.losses import functional as F

Domain = Literal["source", "target"]


@dataclass(frozen=True)
class StepOutputs:
    """What one training step offers to its losses; a domain that was not asked for is None.

    Attributes:
        source_logits: ``(B, C, H, W)`` at label resolution.
        source_labels: ``(B, H, W)``, 255 ignored.
        target_logits: ``(B, C, H, W)`` at label resolution.
        target_labels: ``(B, H, W)``, the bought labels, 255 where there is none.
    """

    source_logits: Tensor | None = None
    source_labels: Tensor | None = None
    target_logits: Tensor | None = None
    target_labels: Tensor | None = None


class LossTerm(nn.Module):
    """A scalar computed from :class:`StepOutputs`; ``domain`` tells whose forward pass it needs."""

    domain: ClassVar[Domain]

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(outputs)")


class SourceCrossEntropy(LossTerm):
    """:func:`~ripu_lightning.losses.functional.cross_entropy` on the source domain."""

    domain = "source"

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return F.cross_entropy(_needed(outputs, "source_logits"), _needed(outputs, "source_labels"))


class TargetCrossEntropy(LossTerm):
    """:func:`~ripu_lightning.losses.functional.cross_entropy` on the bought labels; 0 while there are none."""

    domain = "target"

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return F.cross_entropy(_needed(outputs, "target_logits"), _needed(outputs, "target_labels"))


class LocalConsistency(LossTerm):
    """:func:`~ripu_lightning.losses.functional.local_consistency` on the source domain."""

    domain = "source"

    def __init__(self, norm: F.Norm = "l1", boundary: F.Boundary = "clean") -> None:
        super().__init__()
        _check_choice("loss.terms.local_consistency.norm", norm, get_args(F.Norm))
        _check_choice("loss.terms.local_consistency.boundary", boundary, get_args(F.Boundary))
        self.norm = norm
        self.boundary = boundary

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        logits, labels = _needed(outputs, "source_logits"), _needed(outputs, "source_labels")
        return F.local_consistency(logits, labels, self.norm, self.boundary)


class NegativeLearning(LossTerm):
    """:func:`~ripu_lightning.losses.functional.negative_learning` on the target domain."""

    domain = "target"

    def __init__(self, threshold: float = 0.05) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise UserError(f"loss.terms.negative_learning.threshold: expected above 0 and below 1, got {threshold}")
        self.threshold = threshold

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return F.negative_learning(_needed(outputs, "target_logits"), self.threshold)


class WeightedLosses(nn.Module):
    """The weighted sum of named loss terms; a term of weight 0 is switched off and never computed.

    Args:
        terms: loss terms by name.
        weights: for each of these names its weight, finite and at least 0.

    Raises:
        UserError: a name in one mapping and not in the other, a bad weight, or nothing left to train on.
    """

    def __init__(self, terms: Mapping[str, LossTerm], weights: Mapping[str, float]) -> None:
        super().__init__()
        _check(terms, weights)
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})

    @property
    def domains(self) -> set[Domain]:
        """The domains whose forward pass the terms need."""
        return {term.domain for term in self.terms.values() if isinstance(term, LossTerm)}

    def forward(self, outputs: StepOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, a scalar tensor, and every term's own value before weighting, detached."""
        values: dict[str, Tensor] = {name: term(outputs) for name, term in self.terms.items()}
        total = sum((self.weights[name] * value for name, value in values.items()), start=_zero(values))
        return total, {name: value.detach() for name, value in values.items()}


def _check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{key}: no {value!r}; {suggest(str(value), known)}")


def _zero(values: Mapping[str, Tensor]) -> Tensor:
    return next(iter(values.values())).new_zeros(())


def _needed(outputs: StepOutputs, name: str) -> Tensor:
    value = getattr(outputs, name)
    if not isinstance(value, Tensor):
        raise ValueError(f"outputs.{name}: expected a tensor, got {value}; this loss needs that domain's pass")
    return value


def _check(terms: Mapping[str, LossTerm], weights: Mapping[str, float]) -> None:
    for name in weights:
        if name not in terms:
            raise UserError(f"loss.weights.{name}: no such term; {suggest(name, terms)}")
    for name, term in terms.items():
        if not isinstance(term, LossTerm):
            raise UserError(f"loss.terms.{name}: expected a LossTerm, got {type(term).__name__}")
        if getattr(term, "domain", None) not in get_args(Domain):
            raise UserError(f"loss.terms.{name}: set {type(term).__name__}.domain to 'source' or 'target'")
        if name not in weights:
            raise UserError(f"loss.terms.{name}: has no weight; add loss.weights.{name}")
        _check_weight(name, weights[name])
    if not any(weights.values()):
        raise UserError("loss.weights: no weight is above 0; give at least one term a positive weight")


def _check_weight(name: str, weight: float) -> None:
    if not (isinstance(weight, (int, float)) and math.isfinite(weight) and weight >= 0):
        raise UserError(f"loss.weights.{name}: {weight}; expected a finite number, 0 or above")
