"""MADA: whole target images whose content is farthest from everything in the source (Ning et al., ICCV 2021)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.clustering import k_means
from ripu_lightning.acquisition.region_statistics import mean_features
from ripu_lightning.acquisition.region_types import RegionType, WholeImage
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.selection_rules import SelectionRule
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.errors import require_integer
from ripu_lightning.seeding import derive_seed

_LEAST_CELLS = 10


class MADA(Strategy):
    """Multi-anchor active domain adaptation: an image scores its distance to the nearest of several source anchors.

    An image is described by the mean features of each class it is predicted to hold (zeros for the others), one after
    the other: ``f`` of length ``C*D``. The anchors ``a_k`` are the k-means centres of all source images' ``f``, and the
    score is ``min_k |f - a_k|^2 / (C*D)`` (eqs. 2 to 4). The authors fix the anchors before the first round and average
    source features over correctly predicted pixels; here anchors are found again in each round, without ground truth.
    As in their code, a class that covers fewer than ten cells of the feature map counts as absent.

    Args:
        anchors: k, 1 or more.
        region_type: what a query labels; None is a whole image.
        selection_rule: order of selection; None is best first.

    >>> logits = torch.tensor([[5.0] * 20 + [0.0] * 10, [0.0] * 20 + [5.0] * 10]).reshape(1, 2, 1, 30)
    >>> features = torch.tensor([1.0] * 10 + [3.0] * 10 + [6.0] * 10).reshape(1, 1, 1, 30)
    >>> inputs = ScoreInputs(logits, ["a"], round=1, seed=0, features=features)
    >>> strategy = MADA(anchors=1)
    >>> strategy.summarize(inputs)  # class 0 has the features 1 and 3, class 1 has 6
    tensor([2., 6.])
    >>> strategy.fit([torch.tensor([2.0, 4.0])], [], seed=0)
    >>> strategy.score(inputs)[0, 0, 0].item()  # (0^2 + 2^2) / 2
    2.0
    """

    learned = ("anchors",)

    def __init__(
        self, anchors: int = 10, region_type: RegionType | None = None, selection_rule: SelectionRule | None = None
    ) -> None:
        requires = ["features", "source_statistics"]
        super().__init__(
            "mada", region_type or WholeImage(), selection_rule, requires, Budget(ratio=0.05, per="pool", rounds=1)
        )
        require_integer("mada", "anchors", anchors, least=1)
        self.number = anchors
        self.anchors: Tensor | None = None

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        """The image's ``f``, ``(C*D,)`` float32."""
        classes = int(inputs.logits.shape[1])
        features = self.features_of(inputs)
        rows = inputs.logits[0].argmax(dim=0).reshape(-1)
        pixels = torch.arange(len(rows), device=rows.device)
        means = mean_features(features, (pixels, rows), classes, inputs.shape)
        cell = len(rows) / (features.shape[1] * features.shape[2])
        means[torch.bincount(rows, minlength=classes) < _LEAST_CELLS * cell] = 0
        return means.reshape(-1)

    def fit(self, source: Sequence[Tensor], pool: Sequence[Tensor], seed: int) -> None:
        """Find the anchors ``(K, C*D)``."""
        self.anchors = k_means(torch.stack(list(source)), self.number, derive_seed(seed, "mada"))

    def score(self, inputs: ScoreInputs) -> Tensor:
        """The image's distance, the same for all its pixels."""
        anchors = self.needed(self.anchors, "anchors (call fit first)")
        summaries = torch.stack([self.summarize(image) for image in inputs.split()]).to(anchors)
        return inputs.spread((summaries[:, None] - anchors).square().mean(dim=2).amin(dim=1).float())
