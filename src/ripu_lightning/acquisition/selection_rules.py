"""Selection rules, the order in which candidates are selected: by score, at random, in turns, spread, by round."""

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
        requires: the optional fields of :class:`Candidates` that :meth:`order` reads: ``classes``, ``segments``,
            ``features``.
        exhausted: see :class:`Greedy`.
    """

    name: str
    requires: frozenset[str] = frozenset()
    exhausted: str = "stop"

    def of_round(self, round_number: int) -> "SelectionRule":
        """The rule of a round, from 1; without changes this one in all rounds."""
        return self

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


class Power(Greedy):
    """Drawn without replacement, with probabilities proportional to ``score^beta`` (Kirsch et al., TMLR 2023).

    The order of such draws is the order of ``beta * log(score) + g``, where ``g`` is Gumbel noise (Gumbel top-k).
    Units of score 0 or less come last, in random order. The scores of the queries are these noisy logarithms.

    Args:
        beta: 0 to 1000; 0 draws uniformly among scores above 0; the higher, the closer to best first.

    >>> units = Units(torch.tensor([0.1, 0.4, 0.2]), torch.ones(3, dtype=torch.bool))
    >>> firsts = [int(Power(beta=2.0).prepare(units, seed).values.argmax()) for seed in range(1000)]
    >>> [firsts.count(unit) / 1000 for unit in range(3)]  # 1/21, 16/21 and 4/21
    [0.052, 0.75, 0.198]
    """

    name = "power"

    def __init__(self, beta: float = 1.0) -> None:
        require_number("Power", "beta", beta, most=1000)
        super().__init__()
        self.beta = beta

    def prepare(self, units: Units, seed: int) -> Units:
        """See the class."""
        require_finite(units.values, units.free)
        noise = torch.rand(len(units.values), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        gumbel = -(-noise.clamp_(min=1e-300).log_()).log_().to(units.values.device)
        positive = units.free & (units.values > 0)
        logs = self.beta * units.values.double().masked_fill(~positive, 1).log_()
        return Units(gumbel + torch.where(positive, logs, -1e6), units.free)  # finite, and below every other


class Scheduled(SelectionRule):
    """One rule in the first rounds and another afterwards, such as at random first and by score then.

    Args:
        first: rule of the rounds 1 to ``rounds``.
        then: rule of all later rounds.
        rounds: 1 or more.

    >>> rule = Scheduled(TopRandom(share=1.0), KCentre(), rounds=2)
    >>> [rule.of_round(number).name for number in (1, 2, 3)]
    ['top_random', 'top_random', 'k_centre']
    """

    name = "scheduled"

    def __init__(self, first: SelectionRule, then: SelectionRule, rounds: int = 1) -> None:
        require_integer("Scheduled", "rounds", rounds, least=1)
        self.first, self.then, self.rounds = first, then, rounds
        self.requires = first.requires | then.requires

    def of_round(self, round_number: int) -> SelectionRule:
        """See the class."""
        return (self.first if round_number <= self.rounds else self.then).of_round(round_number)

    def candidates_needed(self, wanted: int) -> int | None:
        """As many as either rule needs."""
        needed = [rule.candidates_needed(wanted) for rule in (self.first, self.then)]
        return max((each for each in needed if each is not None), default=None) if None not in needed else None


class ClassBalanced(SelectionRule):
    """The best of each predicted class in turn (round-robin), so that rare classes get their share of the budget.

    Excluded squares are removed first, by score; the classes take turns among the rest.
    """

    name = "class_balanced"
    requires = frozenset({"classes"})

    def order(self, candidates: Candidates, amount: float, known: Tensor | None = None) -> Tensor:
        """See :class:`SelectionRule`."""
        return candidates.affordable(round_robin(candidates), amount)


class SegmentBalanced(SelectionRule):
    """The best ``most`` of each predicted segment in a round, best first; more of a segment only when all others gave.

    A segment is a connected area of one predicted class; a region belongs to the segment of its centre. The rule keeps
    one long border between two large segments from taking the budget of an image.

    Args:
        most: queries of a segment, 1 or more.
        shortlist: see :class:`KCentre`.

    >>> columns = torch.tensor([0, 0, 0]), torch.tensor([7, 8, 9]), torch.tensor([0.9, 0.8, 0.1]), torch.ones(3)
    >>> SegmentBalanced().order(Candidates(*columns, segments=torch.tensor([3, 3, 5])), 2)
    tensor([0, 2])
    """

    name = "segment_balanced"
    requires = frozenset({"segments"})

    def __init__(self, most: int = 1, shortlist: int | None = 10) -> None:
        require_integer("SegmentBalanced", "most", most, least=1)
        self.most, self.shortlist = most, _checked_shortlist("SegmentBalanced", shortlist)

    def candidates_needed(self, wanted: int) -> int | None:
        """The shortlist."""
        return None if self.shortlist is None else self.shortlist * wanted

    def order(self, candidates: Candidates, amount: float, known: Tensor | None = None) -> Tensor:
        """See :class:`SelectionRule`."""
        if candidates.segments is None:
            raise ValueError("SegmentBalanced: expected candidates with segments, got none")
        ranked, _ = shortlisted(candidates, self.shortlist, amount)
        image, segment = candidates.images[ranked].long(), candidates.segments[ranked]
        turn = rank_in_group(image * (int(segment.max()) + 1 if len(segment) else 1) + segment) // self.most
        return candidates.affordable(ranked[turn.sort(stable=True).indices], amount)


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
        self.shortlist = _checked_shortlist("KCentre", shortlist)

    def candidates_needed(self, wanted: int) -> int | None:
        """The shortlist."""
        return None if self.shortlist is None else self.shortlist * wanted

    def order(self, candidates: Candidates, amount: float, known: Tensor | None = None) -> Tensor:
        """See :class:`SelectionRule`."""
        if candidates.features is None:
            raise ValueError("KCentre: expected candidates with features, got none")
        ranked, wanted = shortlisted(candidates, self.shortlist, amount)
        features = candidates.features[ranked]
        picks = k_centre(features, wanted, features[:0] if known is None else known)
        return candidates.affordable(ranked[torch.tensor(picks, dtype=torch.int64)], amount)


def shortlisted(candidates: Candidates, shortlist: int | None, amount: float) -> tuple[Tensor, int]:
    """Row numbers of the best candidates, ``shortlist`` times as many as ``amount`` may pay for, and that number."""
    ranked = candidates.ranked()
    if shortlist is not None:
        ranked = ranked[: shortlist * math.ceil(amount)]  # no more than every process has kept
    cheapest = ranked[candidates.costs[ranked].argsort(stable=True)]
    wanted = len(candidates.affordable(cheapest, amount))
    return (ranked if shortlist is None else ranked[: shortlist * wanted]), wanted


def rank_in_group(groups: Tensor) -> Tensor:
    """How many of the entries before it belong to the same group, for each of ``groups`` ``(n,)`` int64.

    >>> rank_in_group(torch.tensor([5, 8, 5, 5])).tolist()
    [0, 0, 1, 2]
    """
    order = groups.sort(stable=True).indices
    ordered, place = groups[order], torch.arange(len(order), device=order.device)
    same = torch.zeros_like(ordered, dtype=torch.bool)
    same[1:] = ordered[1:] == ordered[:-1]
    first = place.masked_fill(same, 0).cummax(dim=0).values if len(place) else place
    return torch.empty_like(order).scatter_(0, order, place - first)


def _checked_shortlist(owner: str, shortlist: int | None) -> int | None:
    if shortlist is not None:
        require_integer(owner, "shortlist", shortlist, least=1)
    return shortlist


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
    turn = rank_in_group(classes)
    for name, weight in (weights or {}).items():
        turn[classes == name] //= weight
    # Stable sorts, the least significant key first: by turn, then class, then rank.
    order = classes.sort(stable=True).indices
    order = order[turn[order].sort(stable=True).indices]
    return ranked[order]
