"""The figures of a group, seed by seed and averaged: what tables, plots and words are made of."""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from ripu_lightning.report.groups import Group, Method
from ripu_lightning.report.runs import Run, Stage
from ripu_lightning.report.statistics import Mean, area_under, first_reached, mean_of, paired_difference


class Curve(NamedTuple):
    """Means over the seeds after each round: share bought, 0..1, and figure."""

    shares: list[float]
    means: list[Mean]


def finals(method: Method) -> dict[int, float]:
    """The final mIoU of each seed, 0..1."""
    return {run.result.seed: run.result.miou for run in method.runs if run.result.miou is not None}


def final(method: Method) -> Mean:
    """Their mean."""
    return mean_of(list(finals(method).values()))


def share(method: Method) -> float:
    """Mean share of the pool that was bought, 0..1."""
    return mean_of([run.result.budget["share"] or 0.0 for run in method.runs]).value


def curve(method: Method, figure: Callable[[Stage], float] = lambda stage: stage.miou) -> Curve:
    """A figure after each round that all seeds with a table of rounds have, where all of them counted it."""
    runs = [run for run in method.runs if run.stages]
    shares, means = list[float](), list[Mean]()
    for stages in zip(*(run.stages for run in runs), strict=False):
        values = [figure(stage) for stage in stages]
        if not any(map(math.isnan, values)):
            shares.append(mean_of([stage.share for stage in stages]).value)
            means.append(mean_of(values))
    return Curve(shares, means)


class Comparison:
    """One group's answers.

    Args:
        group: with at least one method.
    """

    def __init__(self, group: Group) -> None:
        self.group = group

    @cached_property
    def bound(self) -> Method | None:
        """What all labels reach: of several such methods, that of the highest mean."""
        return max(self.group.of("all"), key=lambda method: final(method).value, default=None)

    @cached_property
    def levels(self) -> list[list[Method]]:
        """The methods that bought labels, together where their budgets are the same; the cheapest budget first."""
        budgets: dict[str, list[Method]] = {}
        for method in self.group.of("bought"):
            budgets.setdefault(method.budget, []).append(method)
        return sorted(budgets.values(), key=lambda methods: min(map(share, methods)))

    def level_of(self, method: Method) -> list[Method]:
        """The methods with the budget of this one."""
        return next(level for level in self.levels if method in level)

    def best(self, level: Sequence[Method]) -> Method:
        """That of the highest mean mIoU."""
        return max(level, key=lambda method: final(method).value)

    def difference(self, method: Method) -> Mean | None:
        """To the best of the same budget, over the seeds that both have; None for the best and without such seeds."""
        best = self.best(self.level_of(method))
        return None if best is method else paired_difference(finals(method), finals(best))

    def rivals(self, level: Sequence[Method]) -> list[Method]:
        """The methods that can not be told apart from the best of the level."""
        found = [(method, self.difference(method)) for method in level]
        best = self.best(level)
        return [method for method, each in found if method is not best and (each is None or each.holds_zero)]

    def area(self, method: Method) -> tuple[float, Mean] | None:
        """Where the range ends that all methods of this budget cover from 0, and the mean area under the curve."""
        stops = [run.stages[-1].share for other in self.level_of(method) for run in other.runs if run.stages]
        stop = min(stops, default=0.0)
        areas = [_area(run, stop) for run in method.runs if run.stages]
        found = [area for area in areas if area is not None]
        return (stop, mean_of(found)) if found else None

    def needed(self, method: Method, part: float) -> float | None:
        """The share of the pool with which the mean curve reaches a part of the bound; None where it never does."""
        if self.bound is None:
            return None
        shares, means = curve(method)
        return first_reached(shares, [mean.value for mean in means], part * final(self.bound).value)


def _area(run: Run, stop: float) -> float | None:
    stages = [stage for stage in run.stages if not math.isnan(stage.miou)]
    return area_under([stage.share for stage in stages], [stage.miou for stage in stages], 0.0, stop)
