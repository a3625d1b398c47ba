"""The strategy: an acquisition function, a region type and a selection rule under one name."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor

from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.candidates import Candidates
from ripu_lightning.acquisition.region_statistics import Members, dominant_classes, mean_features
from ripu_lightning.acquisition.region_types import RegionType
from ripu_lightning.acquisition.score_inputs import REQUIREMENTS, ScoreInputs
from ripu_lightning.acquisition.selection_rules import Greedy, SelectionRule
from ripu_lightning.errors import InvalidArgument, require_integer

T = TypeVar("T")


class Strategy:
    """Base class of all strategies; a new one overrides :meth:`score`, and any other method that it needs.

    Each round, on every process: :meth:`summarize` of each source image if ``source_statistics`` are required, and of
    each pool image if ``pool_statistics`` are; :meth:`fit` with all summaries; :meth:`score` of each pool image;
    :meth:`select` among the candidates.

    Args:
        name: its name in the label store and in tables.
        region_type: what a query labels.
        selection_rule: order in which candidates are selected; None is :class:`Greedy`.
        requires: inputs of :meth:`score`, of :data:`REQUIREMENTS`; ``logits`` are always there.
        budget: the published one.
        samples: forward passes with dropout, if ``samples`` are required.
        candidate_fields: optional fields of :class:`Candidates` that :meth:`select` reads, of ``classes``,
            ``segments`` and ``features``; None is those of the selection rule.

    Raises:
        InvalidArgument: an unknown requirement, or a number of samples that does not agree with the requirements.
    """

    learned: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that :meth:`fit` sets; they are None before, and the state after."""

    def __init__(
        self,
        name: str,
        region_type: RegionType,
        selection_rule: SelectionRule | None = None,
        requires: Iterable[str] = (),
        budget: Budget | None = None,
        samples: int = 0,
        candidate_fields: Iterable[str] | None = None,
    ) -> None:
        self.name, self.region_type, self.selection_rule = name, region_type, selection_rule or Greedy()
        self.requires = frozenset(requires) | {"logits"} | (self.selection_rule.requires & {"features"})
        self.candidate_fields = (
            self.selection_rule.requires if candidate_fields is None else frozenset(candidate_fields)
        )
        self.budget, self.samples = budget, samples
        unknown = sorted(self.requires - set(REQUIREMENTS))
        if unknown:
            problem = f"must be of {', '.join(REQUIREMENTS)}, got {', '.join(unknown)}"
            raise InvalidArgument(name, "requires", problem)
        if "samples" in self.requires:
            require_integer(name, "samples", samples, least=1)
        elif samples:
            raise InvalidArgument(name, "samples", f"must be 0 if 'samples' are not required, got {samples}")

    def score(self, inputs: ScoreInputs) -> Tensor:
        """Scores ``(B, H, W)``, higher is queried first; an image's depend on that image and the fitted state only."""
        raise NotImplementedError(f"strategy {self.name} has no score")

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        """The statistics of one image (B = 1) that :meth:`fit` needs; small enough to keep those of all images."""
        raise NotImplementedError(f"strategy {self.name} requires statistics but has no summarize")

    def fit(self, source: Sequence[Tensor], pool: Sequence[Tensor], seed: int) -> None:
        """Learn from the summaries of all source and pool images, in the order of the data."""

    def classify(self, inputs: ScoreInputs, members: Members, count: int) -> Tensor:
        """Classes ``(n,)`` int16 of regions of one image; the dominant prediction."""
        return dominant_classes(inputs.logits[0], members, count)

    def describe(self, inputs: ScoreInputs, members: Members, count: int) -> Tensor:
        """Features ``(n, D)`` float32 of regions of one image; the mean of the network's."""
        return mean_features(self.features_of(inputs), members, count, inputs.shape)

    def candidates_needed(self, wanted: int) -> int | None:
        """How many of the best candidates must be kept to select up to ``wanted`` of them; None keeps all."""
        return self.selection_rule.candidates_needed(wanted)

    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        """Row numbers of the candidates that are selected for ``amount``, in order."""
        return self.selection_rule.of_round(round_number).order(candidates, amount, candidates.queried)

    def state_dict(self) -> dict[str, Any]:
        """The state that :meth:`fit` learned, in tensors, numbers, lists and dicts; checkpoints hold it."""
        return {name: getattr(self, name) for name in self.learned if getattr(self, name) is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that :meth:`state_dict` returned."""
        for name in self.learned:
            setattr(self, name, state.get(name))

    def features_of(self, inputs: ScoreInputs) -> Tensor:
        """Features ``(D, h, w)`` of one image; ValueError if the inputs have none."""
        return self.needed(inputs.features, "features in the inputs")[0]

    def needed(self, value: T | None, what: str) -> T:
        """``value``, unless it is None: then ValueError that ``what`` is missing."""
        if value is None:
            raise ValueError(f"strategy {self.name}: expected {what}, got none")
        return value


class Scored(Strategy):
    """A strategy that consists of an acquisition function, :class:`ScoreInputs` -> scores ``(B, H, W)``.

    The other arguments are those of :class:`Strategy`.

    >>> import torch
    >>> from ripu_lightning.acquisition import Pixel
    >>> brightest = Scored("road", lambda inputs: inputs.logits[:, 0], Pixel())
    >>> brightest.score(ScoreInputs(torch.tensor([[[[1.0, 2.0]], [[9.0, 8.0]]]]), ["a"], round=1, seed=0))
    tensor([[[1., 2.]]])
    """

    def __init__(
        self,
        name: str,
        function: Callable[[ScoreInputs], Tensor],
        region_type: RegionType,
        selection_rule: SelectionRule | None = None,
        requires: Iterable[str] = (),
        budget: Budget | None = None,
        samples: int = 0,
    ) -> None:
        super().__init__(name, region_type, selection_rule, requires, budget, samples)
        self._function = function

    def score(self, inputs: ScoreInputs) -> Tensor:
        """See :class:`Strategy`."""
        return self._function(inputs)
