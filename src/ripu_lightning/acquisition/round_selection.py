"""The selection of one round: images are scored one by one, and the budget is spent on each image or on the pool."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.candidates import Candidates, join
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.selection import top
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.connected_segments import connected_segments
from ripu_lightning.seeding import derive_seed

_SLACK = 1.25


class Picks(NamedTuple):
    """The queries of one image in a round, in order of selection.

    Attributes:
        positions: ``(n,)`` int64, flat positions ``row * W + column`` of the centres.
        scores: ``(n,)`` floating.
    """

    positions: Tensor
    scores: Tensor


class RoundSelection:
    """Base class: the selection of one round on one process.

    Args:
        strategy: scores and selects.
        budget: how much may be labelled.
        round_number: from 1.
        pool_pixels: pixels of all images of the pool, of all processes.
    """

    keeps_regions = False
    """Whether picks are final only after :meth:`decide`, so that each image's superpixels must be kept until then."""

    def __init__(self, strategy: Strategy, budget: Budget, round_number: int, pool_pixels: int) -> None:
        self.strategy, self.budget, self.round_number = strategy, budget, round_number
        self.pool_pixels = pool_pixels
        self._last = -1

    def add(
        self, index: int, inputs: ScoreInputs, available: Tensor, queried: Tensor | None = None
    ) -> dict[int, Picks]:
        """Score one image and keep its candidates.

        Args:
            index: the image's position in the pool; images come in rising order.
            inputs: of this one image.
            available: ``(H, W)`` bool, the pixels that may still be picked.
            queried: ``(m,)`` int64 flat positions of the centres that were queried in earlier rounds.

        Returns:
            the picks that are final already, by the image's position in the pool.

        Raises:
            ValueError: an index out of order, more than one image, or inputs that the strategy refuses.
        """
        raise NotImplementedError

    def candidates(self) -> list[Candidates]:
        """The candidates that this process sends to the process that decides."""
        return []

    def decide(self, parts: Sequence[Candidates]) -> dict[int, Picks]:
        """The picks that were not final before, by position in the pool, from the candidates of all processes."""
        return {}

    def _most_picks(self, amount: float, shape: tuple[int, int]) -> int:
        """Upper bound of the picks that ``amount`` pays for."""
        cost = self.strategy.region_type.area(*shape) if self.budget.counts_pixels else 1
        return math.ceil(amount / (cost or 1))

    def _score(
        self, index: int, inputs: ScoreInputs, available: Tensor, queried: Tensor | None, wanted: int, floor: float
    ) -> Candidates:
        """The candidates of one image with scores above ``floor``, as many as ``wanted`` picks need."""
        if index <= self._last or inputs.logits.shape[0] != 1:
            raise ValueError(
                f"expected single images in rising order, got image {index} after {self._last} "
                f"in a batch of {inputs.logits.shape[0]}"
            )
        self._last = index
        strategy, region_type = self.strategy, self.strategy.region_type
        regions = None if inputs.regions is None else inputs.regions[0]
        units = region_type.units(_checked_scores(strategy, inputs), available, regions)
        seed = derive_seed(inputs.seed, "select", inputs.round, inputs.image_ids[0])
        units = strategy.selection_rule.of_round(self.round_number).prepare(units, seed)
        needed = strategy.candidates_needed(wanted)
        most = len(units.values) if needed is None else needed
        numbers = region_type.greedy_order(units, inputs.shape, most, floor)
        positions = region_type.positions(numbers, regions)
        count, area = len(positions), region_type.area(*inputs.shape) if self.budget.counts_pixels else 1
        costs = torch.full((count,), float(area or 1))
        classes = segments = features = known = None
        if strategy.candidate_fields or area is None:
            members = region_type.members(positions, inputs.shape, regions)
            if area is None:
                costs = torch.bincount(members[1], minlength=count).float().cpu()
            if "classes" in strategy.candidate_fields:
                classes = strategy.classify(inputs, members, count).cpu()
            if "segments" in strategy.candidate_fields:
                segments = connected_segments(inputs.logits[0].argmax(dim=0)).reshape(-1)[positions].cpu()
            if "features" in strategy.candidate_fields:
                features = strategy.describe(inputs, members, count).cpu()
                if queried is not None:
                    earlier = region_type.members(queried, inputs.shape, regions)
                    known = strategy.describe(inputs, earlier, len(queried)).cpu()
        images, positions = torch.full((count,), index, dtype=torch.int32), positions.to("cpu", torch.int32)
        return Candidates(images, positions, units.values[numbers].cpu(), costs, classes, segments, features, known)


class ImageBudgetSelection(RoundSelection):
    """Spends the budget on each image; its picks are final at once."""

    def add(
        self, index: int, inputs: ScoreInputs, available: Tensor, queried: Tensor | None = None
    ) -> dict[int, Picks]:
        """See :class:`RoundSelection`."""
        amount = self.budget.amount(self.round_number, available.numel())
        wanted = self._most_picks(amount, inputs.shape)
        found = self._score(index, inputs, available, queried, wanted, floor=-math.inf)
        found = found.rows(self.strategy.select(found, amount, self.round_number))
        rule = self.strategy.selection_rule.of_round(self.round_number)
        if rule.exhausted == "origin" and len(found) < wanted:
            # Pixel (0, 0) once: to query it again adds nothing.
            first = torch.zeros(1, dtype=torch.int32)
            origin = Candidates(images=first + index, positions=first, scores=torch.zeros(1), costs=torch.ones(1))
            found = join([found, origin])
        return _by_image(found)


class PoolBudgetSelection(RoundSelection):
    """Spends the budget on all images together, on those regions that score best.

    Only as many of the best candidates are kept as the budget could pay for, so that memory does not grow with the
    pool; a later image contributes only better ones. The result equals that of one greedy loop over all images,
    because the greedy order inside an image does not depend on the other images.
    """

    keeps_regions = True

    def __init__(self, strategy: Strategy, budget: Budget, round_number: int, pool_pixels: int) -> None:
        super().__init__(strategy, budget, round_number, pool_pixels)
        self._amount = budget.amount(round_number, pool_pixels)
        self._parts: list[Candidates] = []
        self._floor = -math.inf

    def add(
        self, index: int, inputs: ScoreInputs, available: Tensor, queried: Tensor | None = None
    ) -> dict[int, Picks]:
        """See :class:`RoundSelection`."""
        wanted = self._most_picks(self._amount, inputs.shape)
        found = self._score(index, inputs, available, queried, wanted, self._floor)
        self._keep(found, self.strategy.candidates_needed(wanted))
        return {}

    def _keep(self, found: Candidates, limit: int | None) -> None:
        """Add the candidates of an image, and drop what cannot be among the ``limit`` best any more."""
        self._parts.append(found)
        # A quarter more than could ever be selected may gather before the surplus is dropped.
        if limit is not None and sum(map(len, self._parts)) > _SLACK * limit + 1:
            joined = join(self._parts)
            best = joined.rows(top(joined.scores, limit).nonzero()[:, 0])
            self._parts, self._floor = [best], float(best.scores.min())

    def candidates(self) -> list[Candidates]:
        """See :class:`RoundSelection`."""
        return self._parts

    def decide(self, parts: Sequence[Candidates]) -> dict[int, Picks]:
        """See :class:`RoundSelection`."""
        if not parts:
            return {}
        joined = join(parts)
        return _by_image(joined.rows(self.strategy.select(joined, self._amount, self.round_number)))


class BoundedPoolSelection(PoolBudgetSelection):
    """Spends the budget on all images together, with a bound for each (``Budget.most``), in two levels.

    First, image by image, the rule selects for as much as the image may get. Then the amount goes to the images by
    score: an image gets as many queries as it has candidates among the best of the pool (at most its bound), and these
    are the first that the rule selected there. With a rule that goes by score this is the greedy loop over all images
    with a bound on each. With k-centre it is an approximation of k-centre over the pool that compares the features
    inside an image only, so that features are not kept.
    """

    def add(
        self, index: int, inputs: ScoreInputs, available: Tensor, queried: Tensor | None = None
    ) -> dict[int, Picks]:
        """See :class:`RoundSelection`."""
        even = self._amount * available.numel() / self.pool_pixels
        bound = min((self.budget.most or 1) * even, self._amount)
        wanted = self._most_picks(bound, inputs.shape)
        # Without a floor: which candidates the rule sees must not depend on the images that this process had before.
        found = self._score(index, inputs, available, queried, wanted, floor=-math.inf)
        chosen = found.rows(self.strategy.select(found, bound, self.round_number))
        # The n-th query of the image is worth its n-th best score, so that scores fall along the rule's order.
        earned = found.scores.sort(descending=True).values[: len(chosen)]
        ordered = Candidates(chosen.images, chosen.positions, earned, chosen.costs)
        self._keep(ordered.rows((earned > self._floor).nonzero()[:, 0]), self._most_picks(self._amount, inputs.shape))
        return {}

    def decide(self, parts: Sequence[Candidates]) -> dict[int, Picks]:
        """See :class:`RoundSelection`."""
        if not parts:
            return {}
        joined = join(parts)
        return _by_image(joined.rows(joined.affordable(joined.ranked(), self._amount)))


def round_selection(strategy: Strategy, budget: Budget, round_number: int, pool_pixels: int) -> RoundSelection:
    """The selection for a budget of each image or of the pool; arguments as :class:`RoundSelection`.

    >>> from ripu_lightning.acquisition import get_strategy
    >>> strategy, budget = get_strategy("entropy", radius=0), Budget(clicks=3, per="pool", rounds=1)
    >>> selection = round_selection(strategy, budget, round_number=1, pool_pixels=8)
    >>> for index, doubt in enumerate([[0.1, 2.0, 3.0, 9.0], [1.0, 5.0, 0.0, 8.0]]):
    ...     logits = torch.stack((torch.tensor([doubt]), torch.zeros(1, 4)))[None]
    ...     picks = selection.add(index, ScoreInputs(logits, [str(index)], 1, 0), torch.ones(1, 4, dtype=torch.bool))
    >>> {index: picks.positions.tolist() for index, picks in selection.decide(selection.candidates()).items()}
    {0: [0], 1: [2, 0]}
    """
    pool = PoolBudgetSelection if budget.most is None else BoundedPoolSelection
    kind = pool if budget.per == "pool" else ImageBudgetSelection
    return kind(strategy, budget, round_number, pool_pixels)


def _checked_scores(strategy: Strategy, inputs: ScoreInputs) -> Tensor:
    """Scores ``(H, W)`` of one image; ValueError if they have another shape or are not floating."""
    scores = strategy.score(inputs)
    if scores.shape != (1, *inputs.shape) or not scores.is_floating_point():
        raise ValueError(
            f"strategy {strategy.name}: expected floating scores {(1, *inputs.shape)}, "
            f"got {scores.dtype} of shape {tuple(scores.shape)}"
        )
    return scores[0].detach()


def _by_image(selected: Candidates) -> dict[int, Picks]:
    rows = selected.images.sort(stable=True).indices
    counts = torch.bincount(selected.images)
    ends = counts.cumsum(0)
    picks = {}
    for image in counts.nonzero()[:, 0].tolist():
        chosen = rows[int(ends[image] - counts[image]) : int(ends[image])]
        picks[image] = Picks(selected.positions[chosen].long(), selected.scores[chosen])
    return picks
