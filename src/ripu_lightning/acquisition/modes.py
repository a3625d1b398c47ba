"""Selection modes: in which order candidates are bought. Best first, at random among the best, by class, or spread."""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from ripu_lightning.acquisition.candidates import Candidates
from ripu_lightning.acquisition.clustering import k_centre
from ripu_lightning.acquisition.geometry import Units
from ripu_lightning.acquisition.selection import require_finite, top
from ripu_lightning.errors import UserError


class Mode(Protocol):
    """Turns scores into an order of buying.

    Attributes:
        name: what tables call it.
        needs: columns of :class:`Candidates` to fill: ``classes``, ``features``.
        exhausted: see :class:`Greedy`.
    """

    name: str
    needs: frozenset[str]
    exhausted: str

    def prepare(self, units: Units, seed: int) -> Units:
        """The units of one image with other scores, or with fewer of them free; ``seed`` is that image's own."""

    def offered(self, wanted: int) -> int | None:
        """How many candidates an image must offer where up to ``wanted`` are picked; None asks for all."""

    def order(self, candidates: Candidates, amount: float, start: Tensor | None) -> Tensor:
        """Row numbers of what is bought, in order, for ``amount``; ``start`` ``(m, D)`` describes what is known."""


class Greedy:
    """The best score first.

    Args:
        exhausted: where an image holds less than its budget: ``"stop"``, or ``"origin"``: pixel (0, 0) is asked too,
            as the public code of Xie et al. does, whatever was asked before.

    Raises:
        UserError: another word.
    """

    name = "greedy"
    needs: frozenset[str] = frozenset()

    def __init__(self, exhausted: Literal["stop", "origin"] = "stop") -> None:
        if exhausted not in ("stop", "origin"):
            raise UserError(f"selection.exhausted: expected stop or origin, got {exhausted!r}")
        self.exhausted: str = exhausted

    def prepare(self, units: Units, seed: int) -> Units:
        """Units as they are."""
        return units

    def offered(self, wanted: int) -> int | None:
        """As many as could be picked."""
        return wanted

    def order(self, candidates: Candidates, amount: float, start: Tensor | None = None) -> Tensor:
        """See :class:`Mode`."""
        return candidates.affordable(candidates.ranked(), amount)


class TopRandom(Greedy):
    """At random among each image's best: uncertain, yet spread (PixelPick, Shin et al., ICCV workshop 2021).

    Args:
        share: of an image's units that count as the best, above 0 and up to 1; 1 draws from all.

    Raises:
        UserError: a share out of range.

    >>> units = Units(torch.tensor([0.1, 0.9, 0.5, 0.8]), torch.tensor([True, True, True, False]))
    >>> TopRandom(share=0.5).prepare(units, seed=0).values.sort(descending=True).indices[:2].sort().values
    tensor([1, 2])
    """

    name = "top_random"

    def __init__(self, share: float = 0.05) -> None:
        if not 0 < share <= 1:
            raise UserError(f"selection.share: expected a share above 0 and up to 1, got {share}")
        super().__init__()
        self.share = share

    def prepare(self, units: Units, seed: int) -> Units:
        """Uniform random scores for the best, in 0..1; below 0 the others follow, best first."""
        require_finite(units.values, units.free)
        scores = units.values.double().masked_fill(~units.free, -torch.inf)
        best = top(scores, min(max(int(len(scores) * self.share), 1), int(units.free.sum())))
        noise = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return Units(torch.where(best, noise.to(scores.device), scores - scores.max() - 1), units.free)


class ClassBalanced:
    """The best of each predicted class in turn (round-robin), so that rare classes get their share of the budget.

    The exclusion of squares is settled first, by score; classes take turns among what is left.
    """

    name = "class_balanced"
    needs = frozenset({"classes"})
    exhausted = "stop"

    def prepare(self, units: Units, seed: int) -> Units:
        """Units as they are."""
        return units

    def offered(self, wanted: int) -> int | None:
        """All: the best of a rare class may come late."""
        return None

    def order(self, candidates: Candidates, amount: float, start: Tensor | None = None) -> Tensor:
        """See :class:`Mode`."""
        return candidates.affordable(round_robin(candidates), amount)


class KCentre:
    """Diversity: each pick lies farthest from all that is known (k-centre greedy; Sener & Savarese, ICLR 2018).

    Args:
        shortlist: only this many times as many candidates as are wanted enter, the best ones; None lets all enter,
            which only superpixels and images can afford.

    Raises:
        UserError: a shortlist below 1.

    >>> three = torch.tensor([0, 0, 0])
    >>> near, far = torch.tensor([[0.0], [0.1], [5.0]]), torch.tensor([[0.0]])
    >>> KCentre().order(Candidates(three, three, torch.tensor([3.0, 2, 1]), torch.ones(3), features=near), 2, start=far)
    tensor([2, 1])
    """

    name = "k_centre"
    needs = frozenset({"features"})
    exhausted = "stop"

    def __init__(self, shortlist: int | None = 10) -> None:
        if shortlist is not None and shortlist < 1:
            raise UserError(f"selection.shortlist: expected 1 or more, or null, got {shortlist}")
        self.shortlist = shortlist

    def prepare(self, units: Units, seed: int) -> Units:
        """Units as they are."""
        return units

    def offered(self, wanted: int) -> int | None:
        """The shortlist."""
        return None if self.shortlist is None else self.shortlist * wanted

    def order(self, candidates: Candidates, amount: float, start: Tensor | None = None) -> Tensor:
        """See :class:`Mode`."""
        if candidates.features is None:
            raise ValueError("k-centre: expected candidates with features, got none")
        ranked = candidates.ranked()
        if self.shortlist is not None:
            ranked = ranked[: self.shortlist * math.ceil(amount)]  # no more than every process has kept
        cheapest = ranked[candidates.costs[ranked].argsort(stable=True)]
        wanted = len(candidates.affordable(cheapest, amount))
        if self.shortlist is not None:
            ranked = ranked[: self.shortlist * wanted]
        features = candidates.features[ranked]
        picks = k_centre(features, wanted, features[:0] if start is None else start)
        return candidates.affordable(ranked[torch.tensor(picks, dtype=torch.int64)], amount)


def round_robin(candidates: Candidates, weights: dict[int, int] | None = None) -> Tensor:
    """Row numbers ``(n,)``: the best of class 0, of class 1, ..., then the second best of each, and so on.

    Args:
        candidates: with classes.
        weights: how many of a class are taken at each turn, 1 or more; classes that are missing get 1.

    Raises:
        ValueError: candidates without classes.

    >>> columns = torch.tensor([0, 0, 0]), torch.tensor([7, 8, 9]), torch.tensor([0.9, 0.8, 0.1]), torch.ones(3)
    >>> round_robin(Candidates(*columns, classes=torch.tensor([1, 1, 0], dtype=torch.int16))).tolist()
    [2, 0, 1]
    """
    if candidates.classes is None:
        raise ValueError("class-balanced: expected candidates with classes, got none")
    ranked = candidates.ranked()
    classes = candidates.classes[ranked].long()
    turn = torch.zeros(len(ranked), dtype=torch.int64)
    for name in sorted(set(classes.tolist())):
        of_class = (classes == name).nonzero()[:, 0]
        turn[of_class] = torch.arange(len(of_class)) // (weights or {}).get(name, 1)
    # Stable sorts, the least significant key first: by turn, then class, then rank.
    order = classes.sort(stable=True).indices
    order = order[turn[order].sort(stable=True).indices]
    return ranked[order]
