"""Core-set: regions that neither the source nor the queried regions cover (Sener & Savarese, ICLR 2018)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.candidates import Candidates
from ripu_lightning.acquisition.region_types import RegionType, WholeImage
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.selection_rules import KCentre, SelectionRule
from ripu_lightning.acquisition.strategy import Strategy


class CoreSet(Strategy):
    """k-centre greedy on mean features, started from all that is labelled: source images and queried regions.

    Args:
        region_type: what a query labels; None is a whole image.
        selection_rule: order of selection; None is :class:`KCentre` among all candidates.

    >>> strategy = CoreSet()
    >>> strategy.fit([torch.tensor([0.0, 0.0]), torch.tensor([9.0, 9.0])], [], seed=0)
    >>> features = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    >>> strategy.score(ScoreInputs(torch.rand(1, 19, 1, 2), ["a"], round=1, seed=0, features=features))
    tensor([[[5., 5.]]])
    """

    learned = ("source",)

    def __init__(self, region_type: RegionType | None = None, selection_rule: SelectionRule | None = None) -> None:
        super().__init__(
            "core_set",
            region_type or WholeImage(),
            selection_rule or KCentre(shortlist=None),
            ["features", "source_statistics"],
            Budget(ratio=0.05, per="pool"),
        )
        self.source: Tensor | None = None

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        """The image's mean features ``(D,)`` float32."""
        return self.features_of(inputs).double().mean(dim=(1, 2)).float()

    def fit(self, source: Sequence[Tensor], pool: Sequence[Tensor], seed: int) -> None:
        """Keep the source images' features."""
        self.source = torch.stack(list(source))

    def score(self, inputs: ScoreInputs) -> Tensor:
        """Distance of an image's mean features to the nearest source image's, the same for all its pixels."""
        source = self.needed(self.source, "source features (call fit first)")
        summaries = torch.stack([self.summarize(image) for image in inputs.split()]).to(source)
        return inputs.spread(torch.cdist(summaries, source, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1))

    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        """See :class:`Strategy`."""
        known = [each for each in (self.source, candidates.queried) if each is not None]
        rule = self.selection_rule.of_round(round_number)
        return rule.order(candidates, amount, torch.cat(known) if known else None)
