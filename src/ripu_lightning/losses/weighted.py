"""The weighted sum of named loss terms."""

from collections.abc import Collection, Mapping
from typing import get_args

from torch import Tensor, nn

from ripu_lightning.errors import InvalidArgument, require_number, suggest
from ripu_lightning.losses.terms import Domain, LossTerm, StepOutputs


class WeightedLosses(nn.Module):
    """The weighted sum of named loss terms; a term of weight 0 is never computed.

    Args:
        terms: loss terms by name.
        weights: the weight of each term by name, finite and at least 0.
        teacher_decay: share of its weights that the teacher keeps at each step, if a term needs a teacher (DAFormer,
            Hoyer et al., CVPR 2022: 0.999).

    Raises:
        InvalidArgument: a name in one mapping only, a wrong weight or decay, or no weight above 0.
    """

    def __init__(
        self, terms: Mapping[str, LossTerm], weights: Mapping[str, float], teacher_decay: float = 0.999
    ) -> None:
        super().__init__()
        _check(terms, weights)
        require_number("WeightedLosses", "teacher_decay", teacher_decay, below=1)
        self.teacher_decay = teacher_decay
        self.weights = {name: float(weight) for name, weight in weights.items() if weight > 0}
        self.terms = nn.ModuleDict({name: terms[name] for name in self.weights})

    @property
    def domains(self) -> set[Domain]:
        """The domains whose forward pass the terms need."""
        return {term.domain for term in self._active.values()}

    @property
    def images(self) -> frozenset[str]:
        """The image sets, of ``"source"``, ``"target"`` and ``"labelled"``, from which the terms are computed."""
        return frozenset(domain for term in self._active.values() for domain in _images(term))

    @property
    def needs_teacher(self) -> bool:
        """Whether a term needs the teacher's predictions on the target."""
        return any(term.needs_teacher for term in self._active.values())

    def require(self, available: Collection[str]) -> None:
        """Refuse to train if a term needs images that the data do not have.

        Args:
            available: the image sets that the data have, of ``"source"``, ``"target"`` and ``"labelled"``.

        Raises:
            InvalidArgument: naming the term and the domain.
        """
        for name, term in self._active.items():
            for domain in _images(term):
                if domain not in available:
                    kind = "target" if domain == "labelled" else domain
                    raise _invalid(
                        f"terms.{name}",
                        f"needs {kind} images, but the data have none; add {kind} images, "
                        "leave the term out, or set its weight to 0",
                    )

    def require_classes(self, count: int) -> None:
        """Refuse to train with so many classes if a term cannot.

        Raises:
            InvalidArgument: naming the term and its argument.
        """
        for name, term in self._active.items():
            try:
                term.require_classes(count)
            except InvalidArgument as error:
                raise _invalid(f"terms.{name}.{error.argument}", error.problem) from error

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
    """The image sets from which a term is computed."""
    if term.domain == "mixed":
        return ["source", "target"]
    return [term.domain, "target"] if term.needs_teacher else [term.domain]


def _check(terms: Mapping[str, LossTerm], weights: Mapping[str, float]) -> None:
    for name, weight in weights.items():
        if name not in terms:
            raise _invalid(f"weights.{name}", f"names no term; {suggest(name, terms)}")
        require_number("WeightedLosses", f"weights.{name}", weight)
    for name, term in terms.items():
        kind, domains = type(term).__name__, get_args(Domain)
        if not isinstance(term, LossTerm):
            raise _invalid(f"terms.{name}", f"must be a LossTerm, got {kind}")
        if getattr(term, "domain", None) not in domains:
            raise _invalid(f"terms.{name}", f"has no domain; set {kind}.domain to one of {', '.join(domains)}")
        if term.domain == "labelled" and term.needs_teacher:
            raise _invalid(
                f"terms.{name}",
                f"cannot use the teacher, which predicts all target images, on labelled "
                f"images alone; set {kind}.domain to target",
            )
        if name not in weights:
            raise _invalid(f"terms.{name}", "has no weight; add one (0 leaves the term out)")
    if not any(weights.values()):
        raise _invalid("weights", "must have a value above 0 for at least one term")


def _invalid(argument: str, problem: str) -> InvalidArgument:
    return InvalidArgument("WeightedLosses", argument, problem)
