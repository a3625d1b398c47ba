"""Selection rules, the order in which candidates are selected: best first, random among the best, by class, spread."""

import math
from typing import Literal

import torch
from torch import Tensor

from ripu_lightning.acquisition.candidates import Candidates
from ripu_lightning.acquisition.clustering import k_centre
from ripu_lightning.acquisition.region_types import Units
from ripu_lightning.acquisition.selection import require_finite, top
from ripu_lightning.errors import require_choice, require_integer, require_number


class SelectionRule:
    """Base class: turns candidates into an order of selection; without changes, every candidate counts.

    Attributes:
        name: its name in tables.
        requires: the optional fields of :class:`Candidates` that :meth:`order` reads: ``classes``, ``features``.
        exhausted: see :class:`Greedy`.
    """

    name: str
    requires: frozenset[str] = frozenset()
    exhausted: str = "stop"

    def prepare(self, units: Units, seed: int) -> Units:
        """The units of one image, perhaps with other scores or fewer of them free; ``seed`` belongs to the image."""
        return units

    def candidates_needed(self, wanted: int) -> int | None:
        """How many of the best candidates must be kept to select up to ``wanted`` of them; None keeps all."""
        return None

    def order(self, candidates: Candidates, amount: float, known: Tensor | None = None) -> Tensor:
        """Row numbers of the candidates selected for ``amount``, in order.

        Args:
            candidates: of one image, or of the pool.
            amount: in the budget's unit.
            known: ``(m, D)`` features of all that is labelled.
        """
        raise NotImplementedError


class Greedy(SelectionRule):
    """The best score first.

    Args:
        exhausted: if an image has fewer candidates than its budget: ``"stop"``, or ``"origin"``, which queries pixel
            (0, 0) as well, labelled or not, as the public code of Xie et al. does.
    """

    name = "greedy"

    def __init__(self, exhausted: Literal["stop", "origin"] = "stop") -> None:
        require_choice("Greedy", "exhausted", exhausted, ("stop", "origin"))
        self.exhausted = exhausted

    def candidates_needed(self, wanted: int) -> int | None:
        """As many as are wanted."""
        return wanted

    def order(self, candidates: Candidates, amount: float, known: Tensor | None = None) -> Tensor:
        """See :class:`SelectionRule`."""
        return candidates.affordable(candidates.ranked(), amount)


class TopRandom(Greedy):
    """At random among each image's best: uncertain, yet spread (PixelPick, Shin et al., ICCV workshop 2021).

    Args:
        share: of an image's units that count as the best, above 0 and up to 1; 1 draws from all.

    >>> units = Units(torch.tensor([0.1, 0.9, 0.5, 0.8]), torch.tensor([True, True, True, False]))
    >>> TopRandom(share=0.5).prepare(units, seed=0).values.sort(descending=True).indices[:2].sort().values
    tensor([1, 2])
    """

    name = "top_random"

    def __init__(self, share: float = 0.05) -> None:
        require_number("TopRandom", "share", share, above=True, most=1)
        super().__init__()
        self.share = share

    def prepare(self, units: Units, seed: int) -> Units:
        """Uniform random scores for the best, in 0..1; below 0 the others follow, best first."""
        require_finite(units.values, units.free)
        scores = units.values.double().masked_fill(~units.free, -torch.inf)
        best = top(scores, min(max(int(len(scores) * self.share), 1), int(units.free.sum())))
        noise = torch.rand(len(scores), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return Units(torch.where(best, noise.to(scores.device), scores - scores.max() - 1), units.free)


class ClassBalanced(SelectionRule):
    """The best of each predicted class in turn (round-robin), so that rare classes get their share of the budget.

    Excluded squares are removed first, by score; the classes take turns among the rest.
    """

    name = "class_balanced"
    requires = frozenset({"classes"})

    def order(self, candidates: Candidates, amount: float, known: Tensor | None = None) -> Tensor:
        """See :class:`SelectionRule`."""
        return candidates.affordable(round_robin(candidates), amount)


class KCentre(SelectionRule):
    """Diversity: each query is the candidate farthest from all known features (k-centre; Sener & Savarese, ICLR 2018).

    Args:
        shortlist: only the best candidates take part, this many times as many as are wanted; None admits all, which
            is affordable for superpixels and images only.

    >>> three = torch.tensor([0, 0, 0])
    >>> near, far = torch.tensor([[0.0], [0.1], [5.0]]), torch.tensor([[0.0]])
    >>> KCentre().order(Candidates(three, three, torch.tensor([3.0, 2, 1]), torch.ones(3), features=near), 2, known=far)
    tensor([2, 1])
    """

    name = "k_centre"
    requires = frozenset({"features"})

    def __init__(self, shortlist: int | None = 10) -> None:
        if shortlist is not None:
            require_integer("KCentre", "shortlist", shortlist, least=1)
        self.shortlist = shortlist

    def candidates_needed(self, wanted: int) -> int | None:
        """The shortlist."""
        return None if self.shortlist is None else self.shortlist * wanted

    def order(self, candidates: Candidates, amount: float, known: Tensor | None = None) -> Tensor:
        """See :class:`SelectionRule`."""
        if candidates.features is None:
            raise ValueError("KCentre: expected candidates with features, got none")
        ranked = candidates.ranked()
        if self.shortlist is not None:
            ranked = ranked[: self.shortlist * math.ceil(amount)]  # no more than every process has kept
        cheapest = ranked[candidates.costs[ranked].argsort(stable=True)]
        wanted = len(candidates.affordable(cheapest, amount))
        if self.shortlist is not None:
            ranked = ranked[: self.shortlist * wanted]
        features = candidates.features[ranked]
        picks = k_centre(features, wanted, features[:0] if known is None else known)
        return candidates.affordable(ranked[torch.tensor(picks, dtype=torch.int64)], amount)


def round_robin(candidates: Candidates, weights: dict[int, int] | None = None) -> Tensor:
    """Row numbers ``(n,)``: the best of class 0, of class 1, ..., then the second best of each, and so on.

    Args:
        candidates: with classes.
        weights: how many of a class are selected at each turn, 1 or more; classes that are missing get 1.

    >>> columns = torch.tensor([0, 0, 0]), torch.tensor([7, 8, 9]), torch.tensor([0.9, 0.8, 0.1]), torch.ones(3)
    >>> round_robin(Candidates(*columns, classes=torch.tensor([1, 1, 0], dtype=torch.int16))).tolist()
    [2, 0, 1]
    """
    if candidates.classes is None:
        raise ValueError("round_robin: expected candidates with classes, got none")
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
