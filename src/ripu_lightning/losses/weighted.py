"""The weighted sum of a training step's loss terms, composed by name in a config."""

import math
from collections.abc import Collection, Mapping
from typing import get_args

from torch import Tensor, nn

from ripu_lightning.errors import UserError, suggest
from ripu_lightning.losses.terms import Domain, LossTerm, StepOutputs


class WeightedLosses(nn.Module):
    """The weighted sum of named loss terms; a term of weight 0 is switched off and never computed.

    Args:
        terms: loss terms by name.
        weights: for each of these names its weight, finite and at least 0.
        teacher_decay: share of its weights that the teacher keeps at each step, where a term needs a teacher (DAFormer,
            Hoyer et al., CVPR 2022: 0.999).

    Raises:
        UserError: a name in one mapping and not in the other, a bad weight or decay, or nothing left to train on.
    """

    def __init__(
        self, terms: Mapping[str, LossTerm], weights: Mapping[str, float], teacher_decay: float = 0.999
    ) -> None:
        super().__init__()
        _check(terms, weights)
        _check_decay(teacher_decay)
        self.teacher_decay = teacher_decay
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})

    @property
    def domains(self) -> set[Domain]:
        """The domains whose forward pass the terms need."""
        return {term.domain for term in self._active.values()}

    @property
    def images(self) -> frozenset[str]:
        """Of ``"source"``, ``"target"`` and ``"labelled"`` those whose images the terms are computed from."""
        return frozenset(domain for term in self._active.values() for domain in _images(term))

    @property
    def needs_teacher(self) -> bool:
        """Whether a term needs the teacher's predictions on the target."""
        return any(term.needs_teacher for term in self._active.values())

    def require(self, available: Collection[str]) -> None:
        """Refuse to train where a term needs images of a domain that there are none of.

        Args:
            available: of ``"source"``, ``"target"`` and ``"labelled"`` those that the data have.

        Raises:
            UserError: naming the term and the domain.
        """
        for name, term in self._active.items():
            for domain in _images(term):
                if domain not in available:
                    key = "target" if domain == "labelled" else domain
                    raise UserError(
                        f"loss.terms.{name}: needs {key} images, but the data have none; give data.{key}, "
                        f"or choose a loss without it, or set loss.weights.{name}=0"
                    )

    def forward(self, outputs: StepOutputs) -> tuple[Tensor, dict[str, Tensor]]:
        """The total, a scalar tensor, and every term's own value before weighting, detached."""
        values: dict[str, Tensor] = {name: term(outputs) for name, term in self.terms.items()}
        total = sum((self.weights[name] * value for name, value in values.items()), start=_zero(values))
        return total, {name: value.detach() for name, value in values.items()}

    @property
    def _active(self) -> dict[str, LossTerm]:
        return {name: term for name, term in self.terms.items() if isinstance(term, LossTerm)}


def _zero(values: Mapping[str, Tensor]) -> Tensor:
    return next(iter(values.values())).new_zeros(())


def _images(term: LossTerm) -> list[str]:
    """The domains whose images a term is computed from."""
    if term.domain == "mixed":
        return ["source", "target"]
    return [term.domain, "target"] if term.needs_teacher else [term.domain]


def _check(terms: Mapping[str, LossTerm], weights: Mapping[str, float]) -> None:
    for name in weights:
        if name not in terms:
            raise UserError(f"loss.weights.{name}: no such term; {suggest(name, terms)}")
    for name, term in terms.items():
        if not isinstance(term, LossTerm):
            raise UserError(f"loss.terms.{name}: expected a LossTerm, got {type(term).__name__}")
        if getattr(term, "domain", None) not in get_args(Domain):
            raise UserError(
                f"loss.terms.{name}: set {type(term).__name__}.domain to one of {', '.join(get_args(Domain))}"
            )
        if term.domain == "labelled" and term.needs_teacher:
            kind = type(term).__name__
            raise UserError(f"loss.terms.{name}: the teacher looks at all target images; set {kind}.domain to target")
        if name not in weights:
            raise UserError(f"loss.terms.{name}: has no weight; add loss.weights.{name}")
        _check_weight(name, weights[name])
    if not any(weights.values()):
        raise UserError("loss.weights: no weight is above 0; give at least one term a positive weight")


def _check_weight(name: str, weight: float) -> None:
    if not (isinstance(weight, (int, float)) and math.isfinite(weight) and weight >= 0):
        raise UserError(f"loss.weights.{name}: {weight}; expected a finite number, 0 or above")


def _check_decay(decay: float) -> None:
    if not (isinstance(decay, (int, float)) and 0 <= decay < 1):
        raise UserError(f"loss.teacher_decay: expected at least 0 and below 1, got {decay}")
