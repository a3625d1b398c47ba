"""D2ADA: superpixels that are frequent in the target and rare in the source (Wu et al., ECCV 2022)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.candidates import Candidates
from ripu_lightning.acquisition.clustering import GaussianMixture
from ripu_lightning.acquisition.region_statistics import Members, mean_features, mean_over
from ripu_lightning.acquisition.region_types import RegionType
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.selection_rules import SelectionRule, round_robin
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.acquisition.superpixels import Superpixel
from ripu_lightning.errors import InvalidArgument
from ripu_lightning.seeding import derive_seed

_REGIONS_A_COMPONENT, _MOST_COMPONENTS = 100, 10


class D2ADA(Strategy):
    """Dynamic density-aware acquisition: ``log p_T(z|c) - log p_S(z|c)`` of a superpixel's mean features ``z``.

    ``c`` is its class by mean prediction; ``p_T`` and ``p_S`` are Gaussian mixtures of target and source superpixels of
    that class (eqs. 2 to 4). In round n the share ``2^(1-n)`` of the budget is spent on density, by weighted turns of
    the classes (more turns where the domains differ more), the rest on uncertainty (section 3.4, alpha = beta = 1).
    Mixtures have diagonal covariances, where the authors' are full; uncertainty is the mean entropy; every class gets a
    turn, where theirs gets none if the domains differ by less than a factor of ten.

    Args:
        region_type: superpixels; None makes 40 an image with SLIC, as many as the authors have.
        selection_rule: must be None; the order of selection is the strategy's own.

    Raises:
        InvalidArgument: another region type, or a selection rule.
    """

    def __init__(self, region_type: RegionType | None = None, selection_rule: SelectionRule | None = None) -> None:
        region_type = region_type or Superpixel(segments=40)
        if selection_rule is not None:
            problem = "must be left out: d2ada selects in an order of its own, by density and uncertainty"
            raise InvalidArgument("d2ada", "selection_rule", problem)
        if not region_type.segments:
            raise InvalidArgument("d2ada", "region_type", f"must be superpixels, got {region_type.name}s")
        requires = ["features", "regions", "source_statistics", "pool_statistics"]
        budget = Budget(ratio=0.05, per="pool")
        super().__init__("d2ada", region_type, None, requires, budget, candidate_fields=["classes", "features"])
        self.source: dict[int, GaussianMixture] = {}
        self.target: dict[int, GaussianMixture] = {}
        self.weights: dict[int, int] = {}

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        """Class and features of every superpixel, ``(R, 1 + D)`` float32."""
        flat = self.needed(inputs.regions, "regions in the inputs")[0].reshape(-1)
        members, count = (torch.arange(len(flat), device=flat.device), flat), int(flat.max()) + 1
        classes = self.classify(inputs, members, count).to(torch.float32)
        features = mean_features(self.features_of(inputs), members, count, inputs.shape)
        present = torch.bincount(members[1], minlength=count) > 0
        return torch.cat((classes[:, None], features), dim=1)[present]

    def fit(self, source: Sequence[Tensor], pool: Sequence[Tensor], seed: int) -> None:
        """Fit the mixtures, and count how many turns each class gets."""
        sources, targets = torch.cat(list(source)), torch.cat(list(pool))
        self.source, self.target, self.weights = {}, {}, {}
        for name in _names(targets):
            there = targets[targets[:, 0] == name][:, 1:]
            # A class that the source never shows is compared with the complete source.
            here = sources[sources[:, 0] == name][:, 1:] if bool((sources[:, 0] == name).any()) else sources[:, 1:]
            components = min(max(len(there) // _REGIONS_A_COMPONENT, 1), _MOST_COMPONENTS)
            self.source[name] = GaussianMixture.fit(here, components, derive_seed(seed, "source", name))
            self.target[name] = GaussianMixture.fit(there, components, derive_seed(seed, "target", name))
            divergence = abs(float(self._ratio(there, name).mean()))
            self.weights[name] = max(int(math.log10(max(divergence, 1.0))), 1)

    def score(self, inputs: ScoreInputs) -> Tensor:
        """The superpixel's log density ratio, the same for all its pixels."""
        self.needed(self.target or None, "fitted mixtures (call fit first)")
        return torch.stack([self._score_image(image) for image in inputs.split()])

    def _score_image(self, inputs: ScoreInputs) -> Tensor:
        summary = self.summarize(inputs).cpu()
        scores = torch.zeros(len(summary), dtype=torch.float32)
        for name in _names(summary):
            of_class = summary[:, 0] == name
            scores[of_class] = self._ratio(summary[of_class, 1:], name).float()
        regions = self.needed(inputs.regions, "regions in the inputs")[0]
        row_of = (torch.bincount(regions.reshape(-1)) > 0).cumsum(0) - 1
        return scores.to(regions.device)[row_of[regions]]

    def classify(self, inputs: ScoreInputs, members: Members, count: int) -> Tensor:
        """The class of the highest mean probability, ``(n,)`` int16."""
        return mean_over(inputs.logits[0].softmax(dim=0), members, count).argmax(dim=1).to(torch.int16)

    def describe(self, inputs: ScoreInputs, members: Members, count: int) -> Tensor:
        """The mean entropy, ``(n, 1)``, by which the rest of the budget is spent."""
        return mean_over(F.entropy(inputs.logits), members, count)

    def candidates_needed(self, wanted: int) -> None:
        """All: the best of a rare class may have a low score."""

    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        """See the class."""
        features = self.needed(candidates.features, "features of the candidates")
        dense = candidates.affordable(round_robin(candidates, self.weights), amount * 2.0 ** (1 - round_number))
        uncertain = features[:, 0].sort(descending=True, stable=True).indices
        chosen = torch.zeros(len(candidates), dtype=torch.bool)
        chosen[dense] = True
        return candidates.affordable(torch.cat((dense, uncertain[~chosen[uncertain]])), amount)

    def state_dict(self) -> dict[str, Any]:
        """The mixtures and the classes' turns."""
        source, target = (
            {name: mixture.state_dict() for name, mixture in by_class.items()}
            for by_class in (self.source, self.target)
        )
        return {"source": source, "target": target, "weights": dict(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.source, self.target = (
            {name: GaussianMixture(**each) for name, each in state.get(domain, {}).items()}
            for domain in ("source", "target")
        )
        self.weights = dict(state.get("weights", {}))

    def _ratio(self, features: Tensor, name: int) -> Tensor:
        if name not in self.target:  # no pool image had this class when the mixtures were fitted
            return torch.zeros(len(features), dtype=torch.float64)
        return self.target[name].log_density(features) - self.source[name].log_density(features)


def _names(summaries: Tensor) -> list[int]:
    """The classes of superpixels, whose summaries begin with their class."""
    return sorted({int(name) for name in summaries[:, 0].tolist()})
