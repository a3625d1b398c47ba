"""The recommendation at the top of a group, in words: which strategy, how many labels, and how sure that is."""

import math
from collections.abc import Sequence

from ripu_lightning.report.page import group_statistics as group
from ripu_lightning.report.page.comparable_groups import FEW_SEEDS, Method
from ripu_lightning.report.page.group_statistics import GroupStatistics, compared, final, finals, share, unequal
from ripu_lightning.report.page.seed_statistics import Mean, mean_of, paired_difference

ENOUGH = 0.95
"""Part of the bound that counts as enough labels."""
LOWER, SAME, HIGHER = _TESTED = (group.LOWER, group.SAME, group.HIGHER)
_SEVERAL = " with two seeds or more"


def recommend(statistics: GroupStatistics) -> list[str]:
    """The headline, then the reasons and limits, a sentence or two each."""
    if not statistics.levels:
        return ["No finished run of this group has queries: there is no strategy to choose."]
    return _Recommendation(statistics).lines()


def unequal_text(level: Sequence[Method]) -> str:
    """What the methods of one budget labelled, where that is not the same."""
    if not unequal(level):
        return ""
    ends = [f"{_percent(share(each))} ({each.name})" for each in (min(level, key=share), max(level, key=share))]
    return f"With {level[0].budget}, methods labelled unequal shares of the pool, from {ends[0]} to {ends[1]}."


class _Recommendation:
    """Sentences about the method that a group recommends."""

    def __init__(self, statistics: GroupStatistics) -> None:
        self._of = statistics
        wanted, unlabelled = statistics.wanted(ENOUGH), statistics.unlabelled
        self._needless = wanted is not None and unlabelled is not None and unlabelled[1].value >= wanted
        self._method = self._choice()
        self._level = statistics.level_of(self._method)
        self._others = statistics.others(self._method)
        self._kept = statistics.reached(self._method, ENOUGH).kept

    def lines(self) -> list[str]:
        found = [self._headline(), unequal_text(self._level), self._reached(), self._crossing(), self._better()]
        found += [self._lone(), self._cheaper(), self._last_round(), self._seeds()]
        return [line for line in found if line]

    def _choice(self) -> Method:
        """Of the methods that are the best of their budgets: the cheapest near the bound, else the highest mean."""
        best = [self._of.best(level) for level in self._of.levels]
        best = [method for method in best if len(method.seeds) > 1] or best
        enough = [method for method in best if self._of.reached(method, ENOUGH).kept is not None]
        if enough and not self._needless:
            return min(enough, key=share)
        return max(best, key=lambda method: final(method).value)

    def _headline(self) -> str:
        close = [f"or {_names(self._others[what])}: {what}" for what in (SAME, HIGHER) if what in self._others]
        instead = f" ({'; '.join(close)})" if close else ""
        lead = ""
        if len(self._method.seeds) == 1:
            lead = "One seed is no basis for a choice. By that one, "
        elif self._others and not self._others.keys() & {*_TESTED}:
            lead = "No other method of this budget has two seeds in common with it. By the mean, "
        elif self._needless:
            lead = "To label some nevertheless, "
        use = f"{lead}use {self._method.name}{instead}, and label {_percent(share(self._method))} of the pool: "
        needless = ""
        if self._of.unlabelled and self._needless:
            name, mean = self._of.unlabelled
            needless = f"No labels are needed for {ENOUGH:.0%} of the bound: {name} reaches {_miou(mean)}. "
        return needless + use[0].upper() + use[1:] + f"{self._why()}."

    def _why(self) -> str:
        methods = self._of.group.of("queried")
        if self._kept is not None and not self._needless:
            smaller = [each for each in methods if len(each.seeds) == 1 and share(each) < share(self._method)]
            lone = any(self._of.reached(other, ENOUGH).kept is not None for other in smaller)
            return f"the smallest budget that was run and reaches {ENOUGH:.0%} of the bound" + _SEVERAL * lone
        higher = [other for other in methods if final(other).value > final(self._method).value]
        if not higher:
            return "the highest mean that was reached"
        shared = any(len(other.seeds) > 1 for other in higher)
        return "the highest mean" + (" over shared seeds" if shared else _SEVERAL)

    def _reached(self) -> str:
        spent = f"{self._method.budget} ({_percent(share(self._method))} of the pool)"
        text = f"With {spent} it reaches {_miou(final(self._method))}{self._and_the_bound()}"
        sources = self._of.group.of("none")
        return text + (f"; without any target label it is {_miou(final(sources[0]))}." if sources else ".")

    def _and_the_bound(self) -> str:
        if self._of.bound is None:
            return "; without a run on all labels, how many would be enough is unknown"
        bound = final(self._of.bound)
        if self._of.wanted(ENOUGH) is None and self._of.unlabelled:
            name, mean = self._of.unlabelled
            return f"; all labels reach {_miou(bound)}, no more than the {_miou(mean)} of {name}: that is no bound"
        first = self._of.reached(self._method, ENOUGH).first
        limit = " is not reached" if first is None else f" was reached at {_percent(first)}, then lost"
        missing = f" ({ENOUGH:.0%}{limit})" if self._kept is None else ""
        part = final(self._method).value / max(bound.value, 1e-9)
        return f", {part:.0%} of the bound, which is {_miou(bound)} with all labels{missing}"

    def _crossing(self) -> str:
        if self._kept is None or self._kept > 0.99 * share(self._method) or self._needless:
            return ""
        return (
            f"Its curve keeps {ENOUGH:.0%} of the bound from {_percent(self._kept)} on, between its rounds; "
            "a run that ends there may reach something else."
        )

    def _better(self) -> str:
        if len(self._level) == 1:
            return "No other method has this budget."
        lower = _names(self._others.get(LOWER, [])) or "no other method"
        start = "It is" if unequal(self._level) else "At the same budget it is"
        return f"{start} distinguishably better than {lower}."

    def _lone(self) -> str:
        """Methods with too few seeds for or against the choice."""
        lone = [other for what, found in self._others.items() if what not in _TESTED for other in found]
        if len(self._method.seeds) > 1:
            lone += [each for each in self._of.group.of("queried") if len(each.seeds) == 1 and each not in lone]
        names = [f"{other.label}, {_miou(final(other))}" for other in lone if other is not self._method]
        return f"Too few seeds for a comparison: {'; '.join(names)}." if names else ""

    def _cheaper(self) -> str:
        """The best of a smaller budget from which the choice is not distinguishable."""
        for other in map(self._of.best, self._of.levels):
            difference = paired_difference(finals(other), finals(self._method))
            what = compared(difference)
            if difference and share(other) < share(self._method) and what in {SAME, HIGHER}:
                what = f"{SAME} from it" if what == SAME else "higher on the seeds that both have"
                figures = f"{_percent(share(other))} of the pool, {_points(difference)}"
                return f"A smaller budget is {what}: {other.name} ({figures})."
        return ""

    def _last_round(self) -> str:
        runs = self._method.runs
        gains = [run.curve[-1].miou - run.curve[-2].miou for run in runs if len(run.curve) > 2]
        if len(gains) < len(runs) or any(map(math.isnan, gains)):
            return ""
        gain = mean_of(gains)
        unclear = ", not distinguishable from none" if compared(gain) == SAME else ""
        return f"Its last round brought {_points(gain)}{unclear}."

    def _seeds(self) -> str:
        fewest = min(len(method.seeds) for method in self._level)
        few = f"Not every method of this budget has {FEW_SEEDS} seeds (the fewest: {fewest})"
        return f"{few}: a difference may be chance." if fewest < FEW_SEEDS else ""


def _names(methods: Sequence[Method]) -> str:
    return ", ".join(method.name for method in methods)


def _miou(mean: Mean) -> str:
    half = "" if mean.half is None else f" ± {100 * mean.half:.1f}"
    return f"{100 * mean.value:.1f}{half}% mIoU ({mean.seeds} seed{'s' * (mean.seeds != 1)})"


def _points(difference: Mean) -> str:
    half = "" if difference.half is None else f" ± {100 * difference.half:.1f}"
    return f"{100 * difference.value:+.1f}{half} points of mIoU"


def _percent(part: float) -> str:
    return f"{100 * part:.2f}%"
