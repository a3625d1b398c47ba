"""The figures of a group of methods, seed by seed and averaged, and which methods are distinguishable."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from statistics import median
from typing import NamedTuple

from ripu_lightning.report.page import seed_statistics as over_seeds
from ripu_lightning.report.page.comparable_groups import Group, Method
from ripu_lightning.report.page.run_folder import CurvePoint, Run
from ripu_lightning.report.page.seed_statistics import Mean, mean_of, paired_difference

LOWER, SAME, HIGHER = "lower", "not distinguishable", "higher on the shared seeds"
UNEQUAL = 1.1
"""Methods of one budget are reported as unequal above this ratio of their labelled shares."""


class Reached(NamedTuple):
    """The shares, 0..1, at which a curve first reaches a height, and from which on it keeps it; None for never."""

    first: float | None
    kept: float | None


def finals(method: Method) -> dict[int, float]:
    """The final mIoU of each seed, 0..1."""
    return {run.result.seed: run.result.miou for run in method.runs if run.result.miou is not None}


def final(method: Method) -> Mean:
    """Their mean."""
    return mean_of(list(finals(method).values()))


def share(method: Method) -> float:
    """Mean share of the pool's pixels that were queried, 0..1."""
    return mean_of([run.result.budget["share"] or 0.0 for run in method.runs]).value


def curve(
    method: Method, figure: Callable[[CurvePoint], float] = lambda point: point.miou
) -> tuple[list[float], list[Mean]]:
    """Shares, and means over the seeds of a figure, after each round that all seeds have and counted it in."""
    shares, means = list[float](), list[Mean]()
    for points in zip(*(run.curve for run in method.runs), strict=False):
        values = [figure(point) for point in points]
        if not any(map(math.isnan, values)):
            shares.append(mean_of([point.share for point in points]).value)
            means.append(mean_of(values))
    return shares, means


def unequal(level: Sequence[Method]) -> bool:
    """Whether methods of one budget queried shares so different that the budget is the same in name only."""
    shares = [share(method) for method in level]
    return max(shares) > UNEQUAL * min(shares)


def compared(difference: Mean | None) -> str:
    """What a paired difference of final mIoU says about the first of the two."""
    if difference is None:
        return "no seed in common"
    if difference.half is None:
        return "one seed: cannot be tested"
    if difference.holds_zero:
        return SAME
    return LOWER if difference.value < 0 else HIGHER


class GroupStatistics:
    """The figures of one group."""

    def __init__(self, group: Group) -> None:
        self.group = group

    @cached_property
    def bound(self) -> Method | None:
        """The method on all labels; of several, that of the highest mean."""
        return max(self.group.of("all"), key=lambda method: final(method).value, default=None)

    @cached_property
    def unlabelled(self) -> tuple[str, Mean] | None:
        """The most that is reached without any label: by source only, or by a method before its first round."""
        found = [(method.label, final(method)) for method in self.group.of("none")]
        for method in self.group.of("queried"):
            shares, means = curve(method)
            if shares and shares[0] == 0:
                found.append((f"{method.label} before its first round", means[0]))
        return max(found, key=lambda each: each[1].value, default=None)

    def wanted(self, part: float) -> float | None:
        """A part of the bound, as mIoU; None without a bound above what is reached without labels."""
        if self.bound is None:
            return None
        height = final(self.bound).value
        return None if self.unlabelled and height <= self.unlabelled[1].value else part * height

    @cached_property
    def levels(self) -> list[list[Method]]:
        """The methods with queries, together where their budgets are the same; the cheapest budget first."""
        budgets: dict[str, list[Method]] = {}
        for method in self.group.of("queried"):
            budgets.setdefault(method.budget, []).append(method)
        return sorted(budgets.values(), key=lambda methods: min(map(share, methods)))

    def level_of(self, method: Method) -> list[Method]:
        """The methods with the budget of this one."""
        return next(level for level in self.levels if method in level)

    def best(self, level: Sequence[Method]) -> Method:
        """The method of the highest mean mIoU over the seeds that all have (its own if they share less than two).

        A method of one seed counts only where there is no other.
        """
        several = [method for method in level if len(method.seeds) > 1] or list(level)
        shared = set.intersection(*(set(method.seeds) for method in several))
        seeds = [shared if len(shared) > 1 else set(method.seeds) for method in several]
        means = [mean_of([finals(each)[seed] for seed in own]).value for each, own in zip(several, seeds, strict=True)]
        return several[means.index(max(means))]

    def difference(self, method: Method) -> Mean | None:
        """To the best of the same budget, over the seeds that both have; None for the best and without such seeds."""
        best = self.best(self.level_of(method))
        return None if best is method else paired_difference(finals(method), finals(best))

    def others(self, method: Method) -> dict[str, list[Method]]:
        """The other methods of the budget of which this is the best, by how they compare."""
        found: dict[str, list[Method]] = {}
        for other in self.level_of(method):
            if other is not method:
                found.setdefault(compared(self.difference(other)), []).append(other)
        return found

    def area_end(self, level: Sequence[Method]) -> float:
        """Where the range of the areas ends: the methods of a budget cover it, except those that queried far less."""
        middle = median(map(share, level))
        runs = [run for method in level if UNEQUAL * share(method) >= middle for run in method.runs]
        return min((run.curve[-1].share for run in runs if run.curve), default=0.0)

    def area(self, method: Method) -> Mean | None:
        """The mean area under the curve from 0 to there; None where the curve of a seed does not cover that range."""
        stop = self.area_end(self.level_of(method))
        areas = [_area(run, stop) for run in method.runs]
        found = [area for area in areas if area is not None]
        return mean_of(found) if len(found) == len(areas) else None

    def reached(self, method: Method, part: float) -> Reached:
        """Where the mean curve, which ends with what the runs reached, reaches a part of the bound."""
        wanted = self.wanted(part)
        if wanted is None:
            return Reached(None, None)
        shares, means = curve(method)
        values = [mean.value for mean in means]
        if not shares or shares[-1] < share(method):
            shares, values = [*shares, share(method)], [*values, final(method).value]
        return Reached(over_seeds.first_reached(shares, values, wanted), over_seeds.kept_from(shares, values, wanted))


def _area(run: Run, stop: float) -> float | None:
    points = [point for point in run.curve if not math.isnan(point.miou)]
    return over_seeds.area_under([point.share for point in points], [point.miou for point in points], 0.0, stop)
