"""One round: images are offered one by one, what may still be bought is kept, and in the end it is decided."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.candidates import Candidates, join
from ripu_lightning.acquisition.geometry import Geometry
from ripu_lightning.acquisition.inputs import ScoreInputs
from ripu_lightning.acquisition.selection import top
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.seeding import derive_seed

_SLACK = 1.25


class Picks(NamedTuple):
    """What one image is asked in a round, in order of picking.

    Attributes:
        positions: ``(n,)`` int64, flat positions ``row * W + column`` of the centres.
        scores: ``(n,)`` floating.
    """

    positions: Tensor
    scores: Tensor


class Shortlist:
    """The candidates of one round on one process; :meth:`decide` joins those of all processes.

    A budget of each image is spent at once when the image is offered. For a budget of the pool, as many of the best
    candidates are kept as the whole budget could buy, so that memory does not grow with the pool; a later image only
    offers what is better. The result is that of one greedy loop over all images together, because the greedy order
    inside an image does not depend on the other images.

    Args:
        strategy: what to ask.
        budget: how much.
        round_number: from 1.
        pool_pixels: pixels of all images of the pool, of all processes.

    >>> from ripu_lightning.acquisition import get_strategy
    >>> strategy, budget = get_strategy("entropy", radius=0), Budget(clicks=3, per="pool", rounds=1)
    >>> shortlist = Shortlist(strategy, budget, round_number=1, pool_pixels=8)
    >>> for index, doubt in enumerate([[0.1, 2.0, 3.0, 9.0], [1.0, 5.0, 0.0, 8.0]]):
    ...     logits = torch.stack((torch.tensor([doubt]), torch.zeros(1, 4)))[None]
    ...     shortlist.offer(index, ScoreInputs(logits, [str(index)], 1, 0), torch.ones(1, 4, dtype=torch.bool))
    >>> {index: picks.positions.tolist() for index, picks in shortlist.decide().items()}
    {0: [0], 1: [2, 0]}
    """

    def __init__(self, strategy: Strategy, budget: Budget, round_number: int, pool_pixels: int) -> None:
        self.strategy, self.budget, self.round_number = strategy, budget, round_number
        self.pool_pixels = pool_pixels
        self.parts: list[Candidates] = []
        self.offered: set[int] = set()
        self._floor, self._last = -math.inf, -1

    def offer(self, index: int, inputs: ScoreInputs, available: Tensor, taken: Tensor | None = None) -> None:
        """Score one image and keep its candidates.

        Args:
            index: the image's position in the pool; images come in rising order.
            inputs: of this one image.
            available: ``(H, W)`` bool, what may still be picked.
            taken: ``(m,)`` int64 flat positions of the centres bought in earlier rounds.

        Raises:
            ValueError: an index out of order, more than one image, or what the strategy refuses.
        """
        if index <= self._last or inputs.logits.shape[0] != 1:
            raise ValueError(
                f"expected single images in rising order, got image {index} after {self._last} "
                f"in a batch of {inputs.logits.shape[0]}"
            )
        self._last = index
        self.offered.add(index)
        per_image = self.budget.per == "image"
        amount = self._amount(available.numel() if per_image else self.pool_pixels)
        wanted = _most_picks(self.strategy.geometry, self.budget, amount, inputs.shape)
        part = self._candidates(index, inputs, available, taken, self.strategy.mode.offered(wanted))
        if per_image:
            part = part.rows(self.strategy.select(part, amount, self.round_number))
            if self.strategy.mode.exhausted == "origin" and len(part) < wanted:
                part = join([part, self._origin(index)])
        self.parts.append(part)
        if not per_image:
            self._trim(self.strategy.mode.offered(wanted))

    def decide(self, parts: Sequence[Candidates] | None = None) -> dict[int, Picks]:
        """What each image is asked.

        Args:
            parts: the ``parts`` of the shortlists of all processes, in any order; None takes this one's alone.

        Returns:
            picks by the image's position in the pool; images that are asked nothing are missing.
        """
        parts = self.parts if parts is None else parts
        if not parts:
            return {}
        bought = join(parts)
        if self.budget.per == "pool":
            rows = self.strategy.select(bought, self._amount(self.pool_pixels), self.round_number)
            bought = bought.rows(rows)
        rows = bought.images.sort(stable=True).indices
        counts = torch.bincount(bought.images)
        ends = counts.cumsum(0)
        decided = {}
        for image in counts.nonzero()[:, 0].tolist():
            asked = rows[int(ends[image] - counts[image]) : int(ends[image])]
            decided[image] = Picks(bought.positions[asked].long(), bought.scores[asked])
        return decided

    def _candidates(
        self, index: int, inputs: ScoreInputs, available: Tensor, taken: Tensor | None, limit: int | None
    ) -> Candidates:
        strategy, geometry = self.strategy, self.strategy.geometry
        regions = None if inputs.regions is None else inputs.regions[0]
        scores = strategy.score(inputs)
        if scores.shape != (1, *inputs.shape) or not scores.is_floating_point():
            raise ValueError(
                f"strategy {strategy.name}: expected floating scores {(1, *inputs.shape)}, "
                f"got {scores.dtype} of shape {tuple(scores.shape)}"
            )
        units = geometry.units(scores[0].detach(), available, regions)
        seed = derive_seed(inputs.seed, "select", inputs.round, inputs.image_ids[0])
        units = strategy.mode.prepare(units, seed)
        most = len(units.values) if limit is None else limit
        numbers = geometry.walk(units, inputs.shape, most, self._floor)
        positions = geometry.positions(numbers, regions)
        needs_pixels = self.budget.counts_pixels and geometry.area(*inputs.shape) is None
        members = geometry.members(positions, inputs.shape, regions) if strategy.columns or needs_pixels else None
        count = len(positions)
        classes = features = known = None
        if members is not None and "classes" in strategy.columns:
            classes = strategy.classify(inputs, members, count).cpu()
        if members is not None and "features" in strategy.columns:
            features = strategy.describe(inputs, members, count).cpu()
            if taken is not None:
                known = strategy.describe(inputs, geometry.members(taken, inputs.shape, regions), len(taken)).cpu()
        costs = torch.bincount(members[1], minlength=count) if needs_pixels and members is not None else None
        return Candidates(
            images=torch.full((count,), index, dtype=torch.int32),
            positions=positions.to("cpu", torch.int32),
            scores=units.values[numbers].cpu(),
            costs=self._fixed_costs(count, inputs.shape) if costs is None else costs.float().cpu(),
            classes=classes,
            features=features,
            taken=known,
        )

    def _origin(self, index: int) -> Candidates:
        """Pixel (0, 0) of an image; once, as it can teach no more when it is asked again."""
        first = torch.zeros(1, dtype=torch.int32)
        return Candidates(images=first + index, positions=first, scores=torch.zeros(1), costs=torch.ones(1))

    def _fixed_costs(self, count: int, shape: tuple[int, int]) -> Tensor:
        area = self.strategy.geometry.area(*shape) if self.budget.counts_pixels else 1
        return torch.full((count,), float(area or 1))

    def _amount(self, pixels: int) -> float:
        return self.budget.amount(self.round_number, pixels)

    def _trim(self, limit: int | None) -> None:
        """Once there are a quarter more candidates than could ever be bought, keep those that could."""
        if limit is None or sum(map(len, self.parts)) <= _SLACK * limit + 1:
            return
        joined = join(self.parts)
        best = joined.rows(top(joined.scores, limit).nonzero()[:, 0])
        self.parts, self._floor = [best], float(best.scores.min())


def _most_picks(geometry: Geometry, budget: Budget, amount: float, shape: tuple[int, int]) -> int:
    """Upper bound of the picks that an amount buys of one image."""
    if not budget.counts_pixels:
        return math.ceil(amount)
    return math.ceil(amount / (geometry.area(*shape) or 1))
