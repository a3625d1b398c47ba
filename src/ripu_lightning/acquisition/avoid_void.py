"""Avoiding void: any score, lowered where regions like those that were answered as void are."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ripu_lightning.acquisition.candidates import Candidates
from ripu_lightning.acquisition.region_statistics import Members
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.errors import InvalidArgument

_OF_AN_IMAGE, _OF_THE_POOL = 64, 20_000


class AvoidVoid(Strategy):
    """``score * (1 - p)``, where ``p`` is the probability that a query is answered as void.

    In each round a logistic regression is fitted to the earlier queries of all images: from their features under the
    current network to the share of their pixels that has no class. It is read at the features' own stride and resized.
    Without void answers, as in the first round, the score is unchanged. Scores must be 0 or more. Fitting takes one
    more pass over the pool and reads up to 64 queries an image and 20,000 in all, evenly spaced.

    Args:
        strategy: gives the score, the region type and the selection rule.

    Raises:
        InvalidArgument: a strategy that learns from statistics itself.

    >>> from ripu_lightning.acquisition import Pixel, Scored
    >>> strategy = AvoidVoid(Scored("even", lambda inputs: torch.ones(1, 1, 2), Pixel()))
    >>> strategy.fit([], [torch.tensor([[1.0, 0.9], [0.0, 0.1]] * 50)], seed=0)  # void share and feature of each query
    >>> features = torch.tensor([[[[0.1, 0.9]]]])
    >>> strategy.score(ScoreInputs(torch.rand(1, 19, 1, 2), ["a"], round=2, seed=0, features=features))
    tensor([[[0.9664, 0.0336]]])
    """

    learned = ("weights",)

    def __init__(self, strategy: Strategy) -> None:
        if strategy.requires & {"source_statistics", "pool_statistics"}:
            problem = "works with scores of one image; this strategy learns from statistics of all images"
            raise InvalidArgument(strategy.name, "avoid_void", problem)
        super().__init__(
            strategy.name,
            strategy.region_type,
            strategy.selection_rule,
            strategy.requires | {"answers", "features", "pool_statistics"},
            strategy.budget,
            strategy.samples,
            strategy.candidate_fields,
        )
        self.strategy = strategy
        self.weights: Tensor | None = None

    def summarize(self, inputs: ScoreInputs) -> Tensor:
        """Void share and features of the image's earlier queries, ``(m, 1 + D)`` float32."""
        features = self.features_of(inputs)
        if inputs.answers is None or not len(inputs.answers.positions):
            return features.new_zeros((0, 1 + len(features)))
        positions, void = (_spaced(column, _OF_AN_IMAGE).to(features.device) for column in inputs.answers)
        regions = None if inputs.regions is None else inputs.regions[0]
        members = self.region_type.members(positions, inputs.shape, regions)
        return torch.cat((void[:, None].float(), self.describe(inputs, members, len(positions)).float()), dim=1)

    def fit(self, source: Sequence[Tensor], pool: Sequence[Tensor], seed: int) -> None:
        """Fit the regression, if some answers were void and some were not."""
        rows = _spaced(torch.cat(list(pool)), _OF_THE_POOL)
        void = rows[:, 0]
        both = len(rows) > 0 and bool((void > 0).any()) and bool((void < 1).any())
        self.weights = fit_logistic(rows[:, 1:], void) if both else None

    def score(self, inputs: ScoreInputs) -> Tensor:
        """See the class."""
        scores = self.strategy.score(inputs)
        if self.weights is None:
            return scores
        bias, weights = self.weights[0], self.weights[1:]
        features = self.needed(inputs.features, "features in the inputs")
        weights = weights.to(features)
        odds = torch.stack([(weights @ image.flatten(1)).reshape(image.shape[1:]) for image in features])[:, None]
        void = (odds + float(bias)).sigmoid_()
        void = torch.nn.functional.interpolate(void, inputs.shape, mode="bilinear", align_corners=True)[:, 0]
        return scores * (1 - void)

    def classify(self, inputs: ScoreInputs, members: Members, count: int) -> Tensor:
        """As the strategy does."""
        return self.strategy.classify(inputs, members, count)

    def describe(self, inputs: ScoreInputs, members: Members, count: int) -> Tensor:
        """As the strategy does."""
        return self.strategy.describe(inputs, members, count)

    def candidates_needed(self, wanted: int) -> int | None:
        """As the strategy does."""
        return self.strategy.candidates_needed(wanted)

    def select(self, candidates: Candidates, amount: float, round_number: int) -> Tensor:
        """As the strategy does."""
        return self.strategy.select(candidates, amount, round_number)


def fit_logistic(features: Tensor, targets: Tensor, ridge: float = 1.0, iterations: int = 1000) -> Tensor:
    """Weights of a ridge-penalised logistic regression, ``(1 + D,)`` float64, the bias first.

    They minimise ``sum_n log(1 + exp(z_n)) - y_n z_n + ridge/2 |v|^2`` with ``z_n = b + v x_n``, where ``x`` are the
    features, shifted and scaled to mean 0 and variance 1; the weights returned are for the features as given. Newton's
    steps take the bound ``X'X / 4`` instead of the Hessian (Boehning & Lindsay, 1988), so that every step descends.

    Args:
        features: ``(N, D)`` floating.
        targets: ``(N,)``, ``y`` in 0..1, not all 0 and not all 1.
        ridge: above 0.
        iterations: steps at most.
    """
    points, targets = features.double(), targets.double()
    mean, scale = points.mean(dim=0), points.std(dim=0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    points = torch.cat((torch.ones_like(points[:, :1]), (points - mean) / scale), dim=1)
    penalty = torch.full_like(points[0], ridge)
    penalty[0] = 0
    bound = torch.linalg.cholesky(points.T @ points / 4 + penalty.diag())
    weights = torch.zeros_like(penalty)
    for _ in range(iterations):
        slope = points.T @ ((points @ weights).sigmoid_() - targets) + penalty * weights
        step = torch.cholesky_solve(slope[:, None], bound)[:, 0]
        weights -= step
        if float(step.abs().max()) < 1e-6:
            break
    weights[1:] /= scale
    weights[0] -= weights[1:] @ mean
    return weights


def _spaced(rows: Tensor, most: int) -> Tensor:
    """Up to ``most`` rows, evenly spaced."""
    count = min(len(rows), most)
    return rows[torch.arange(count, device=rows.device) * len(rows) // max(count, 1)]
