"""What a budget will really spend: complete regions may be more than was asked for, and a round may get nothing."""

import math
from collections import Counter
from collections.abc import Sequence

from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.region_types import RegionType

TOLERATED = 0.1
"""Share of the budget by which rounds may exceed it without a warning."""
Size = tuple[int, int]
Scope = tuple[Size, int, int]
"""What is given an amount: the size of its images, its pixels, and how often it occurs."""


def budget_warnings(region_type: RegionType, budget: Budget, sizes: Sequence[Size]) -> list[str]:
    """How a plan departs from its budget, one line each: it spends over 10% more, cannot spend all, or skips rounds.

    Args:
        region_type: what a query labels.
        budget: how much may be labelled.
        sizes: ``(H, W)`` of all images of the pool.

    >>> from ripu_lightning.acquisition import Square
    >>> print(*budget_warnings(Square(1), Budget(ratio=0.022), [(32, 32)]))
    budget: asks for 2.2% of the pixels, but 5 rounds with at least one square of 9 pixels in each image cost 4.39%; \
choose fewer rounds, smaller regions or per=pool
    """
    if not (budget.rounds and sizes):
        return []
    found = [_excess(region_type, budget, sizes), _idle(budget), _crowded(region_type, budget, sizes)]
    return [line for line in found if line]


def least_spending(region_type: RegionType, budget: Budget, sizes: Sequence[Size]) -> float | None:
    """Pixels that all rounds together spend at least; None for a budget in queries, or regions of unknown size.

    A round selects regions until it reaches its amount, so at least one. A clipped square counts as a full one, and a
    superpixel has the mean size of an image's superpixels.

    >>> from ripu_lightning.acquisition import Square
    >>> least_spending(Square(1), Budget(ratio=0.01, rounds=2), [(100, 100), (10, 10)])  # 2 * 6 and 2 * 1 squares
    126.0
    """
    if not budget.counts_pixels:
        return None
    total = 0.0
    for size, pixels, count in _scopes(budget, sizes):
        cost = _least_cost(region_type, sizes) if budget.per == "pool" else region_type.typical_area(*size)
        if cost is None:
            return None
        amounts = [budget.amount(number + 1, pixels) for number in range(budget.rounds)]
        total += count * sum(math.ceil(amount / cost) * cost for amount in amounts)
    return total


def unspent(
    region_type: RegionType, budget: Budget, sizes: Sequence[Size], round_number: int, queries: int, pixels: int
) -> str | None:
    """The line for a round that queried less than its amount, as regions or answers lacked; None for others.

    Args:
        region_type: what a query labels.
        budget: how much may be labelled.
        sizes: ``(H, W)`` of all images of the pool.
        round_number: from 1.
        queries: of the round.
        pixels: that the round queried.
    """
    wanted = spent = 0.0
    unit = "queries"
    for size, area, count in _scopes(budget, sizes):
        amount, cost = budget.amount(round_number, area), region_type.area(*size)
        if not budget.counts_pixels:
            wanted, spent = wanted + count * amount, queries
        elif cost is not None:
            wanted, spent = wanted + count * math.ceil(amount / cost), queries
        else:
            wanted, spent, unit = wanted + count * amount, pixels, "pixels"
    if spent >= wanted * (1 - 1e-9):
        return None
    missing, all_of_it = math.ceil(wanted - spent), math.ceil(wanted)
    return (
        f"budget: round {round_number} could not spend {missing:,} of its {all_of_it:,} {unit}, because no further "
        f"{region_type.name} could be queried, or some were not answered"
    )


def _excess(region_type: RegionType, budget: Budget, sizes: Sequence[Size]) -> str | None:
    least, pool = least_spending(region_type, budget, sizes), sum(height * width for height, width in sizes)
    asked = sum(
        count * sum(budget.amount(number + 1, pixels) for number in range(budget.rounds))
        for _, pixels, count in _scopes(budget, sizes)
    )
    if least is None or least <= asked * (1 + TOLERATED):
        return None
    place, fix = (
        (" in each image", ", smaller regions or per=pool") if budget.per == "image" else ("", " or smaller regions")
    )
    return (
        f"budget: asks for {100 * asked / pool:.3g}% of the pixels, but {budget.rounds} rounds with at least one "
        f"{region_type.name} of {_least_cost(region_type, sizes) or 0:.0f} pixels{place} cost "
        f"{100 * least / pool:.3g}%; choose fewer rounds{fix}"
    )


def _idle(budget: Budget) -> str | None:
    """The rounds without any query although the split gives them a share."""
    if budget.counts_pixels:
        return None
    amounts = [budget.amount(number + 1, 0) for number in range(budget.rounds)]
    idle = [str(number + 1) for number, amount in enumerate(amounts) if not amount and budget.weights[number]]
    if not idle:
        return None
    return (
        f"budget: {sum(amounts):.0f} {budget.unit} over {budget.rounds} rounds leave round{'s' * (len(idle) > 1)} "
        f"{', '.join(idle)} without a query; choose fewer rounds or more {budget.unit}"
    )


def _crowded(region_type: RegionType, budget: Budget, sizes: Sequence[Size]) -> str | None:
    """More queries than an image has room for, by the exclusion around each or by the number of its superpixels."""
    for size, pixels, _ in _scopes(budget, sizes) if budget.per == "image" else ():
        (height, width), typical = size, region_type.typical_area(*size)
        amounts = [budget.amount(number + 1, pixels) for number in range(budget.rounds)]
        if typical is None:
            continue
        picks = sum(math.ceil(amount / typical) if budget.counts_pixels else int(amount) for amount in amounts)
        spacing = region_type.exclusion + 1
        most = math.ceil(height / spacing) * math.ceil(width / spacing)
        if region_type.area(*size) is not None and picks > most:
            return (
                f"budget: {picks} queries in an image of {height}x{width}, but an exclusion of {spacing - 1} pixels "
                f"leaves room for at most {most}; the rest will not be spent (a smaller radius leaves more room)"
            )
        if region_type.area(*size) is None and picks * typical > pixels * (1 + TOLERATED):
            return (
                f"budget: {picks} queries in an image of {height}x{width}, which has about {pixels / typical:.0f} "
                f"{region_type.name}s; the rest will not be spent (choose a smaller budget or smaller regions)"
            )
    return None


def _scopes(budget: Budget, sizes: Sequence[Size]) -> list[Scope]:
    if budget.per == "pool":
        return [(sizes[0], sum(height * width for height, width in sizes), 1)]
    return [(size, size[0] * size[1], count) for size, count in sorted(Counter(sizes).items())]


def _least_cost(region_type: RegionType, sizes: Sequence[Size]) -> float | None:
    costs = [region_type.typical_area(*size) for size in sorted(set(sizes))]
    known = [cost for cost in costs if cost is not None]
    return min(known, default=None)
