"""The answer at the top of a group, in words: which strategy, how many labels, and how sure that is."""

import math

from ripu_lightning.report.page.groups import FEW_SEEDS, Method
from ripu_lightning.report.page.standings import HIGHER, LOWER, SAME, Standings, final, finals, share, told, unequal
from ripu_lightning.report.page.statistics import Mean, mean_of, paired_difference

ENOUGH = 0.95
"""Part of the bound that is taken for enough labels."""
_SEVERAL = " with two seeds or more"


def answer(standings: Standings) -> list[str]:
    """The headline, then the reasons and limits, a sentence or two each."""
    if not standings.levels:
        return ["No finished run of this group bought labels: there is no strategy to choose."]
    method = _choice(standings)
    level = standings.level_of(method)
    lines = [_headline(standings, method), bought(level), _reached(standings, method), _crossing(standings, method)]
    lines += [_told_apart(standings, method), _lone(standings, method), _cheaper(standings, method)]
    lines += [_last_round(method), _seeds(level)]
    return [line for line in lines if line]


def _choice(standings: Standings) -> Method:
    """Of the methods that are the best of their budgets: the cheapest near the bound, else the highest mean."""
    best = [standings.best(level) for level in standings.levels]
    best = [method for method in best if len(method.seeds) > 1] or best
    if not _needless(standings):
        enough = [method for method in best if standings.reached(method, ENOUGH).kept is not None]
        if enough:
            return min(enough, key=share)
    return max(best, key=lambda method: final(method).value)


def _needless(standings: Standings) -> bool:
    """Whether enough is reached without any label."""
    wanted = standings.wanted(ENOUGH)
    return wanted is not None and standings.unlabelled is not None and standings.unlabelled[1].value >= wanted


def _headline(standings: Standings, method: Method) -> str:
    others = standings.others(method)
    close = [f"or {_names(others[what])}: {what}" for what in (SAME, HIGHER) if what in others]
    instead = f" ({'; '.join(close)})" if close else ""
    lead = ""
    if len(method.seeds) == 1:
        lead = "One seed is no basis for a choice. By that alone, "
    elif others and not others.keys() & {LOWER, SAME, HIGHER}:
        lead = "No other method of this budget has two seeds in common with it. By the mean alone, "
    elif _needless(standings):
        lead = "If some are bought all the same, "
    use = f"{lead}use {method.name}{instead}, and label {_percent(share(method))} of the pool: "
    return _unneeded(standings) + use[0].upper() + use[1:] + f"{_why(standings, method)}."


def _unneeded(standings: Standings) -> str:
    if not standings.unlabelled or not _needless(standings):
        return ""
    name, mean = standings.unlabelled
    return f"No labels are needed for {ENOUGH:.0%} of the bound: {name} reaches {_miou(mean)}. "


def _why(standings: Standings, method: Method) -> str:
    methods = standings.group.of("bought")
    if not _needless(standings) and standings.reached(method, ENOUGH).kept is not None:
        smaller = [other for other in methods if len(other.seeds) == 1 and share(other) < share(method)]
        lone = any(standings.reached(other, ENOUGH).kept is not None for other in smaller)
        return f"the smallest budget that was run and reaches {ENOUGH:.0%} of the bound" + _SEVERAL * lone
    higher = [other for other in methods if final(other).value > final(method).value]
    if not higher:
        return "the highest mean that was reached"
    shared = any(len(other.seeds) > 1 for other in higher)
    return "the highest mean" + (" over shared seeds" if shared else _SEVERAL)


def bought(level: list[Method]) -> str:
    """What the methods of one budget bought, where that is not the same."""
    if not unequal(level):
        return ""
    least, most = min(level, key=share), max(level, key=share)
    ends = [f"{_percent(share(other))} ({other.name})" for other in (least, most)]
    return f"With {least.budget}, methods bought unequal shares of the pool, from {ends[0]} to {ends[1]}."


def _reached(standings: Standings, method: Method) -> str:
    text = f"With {method.budget} ({_percent(share(method))} of the pool) it reaches {_miou(final(method))}"
    text += _beside_bound(standings, method)
    sources = standings.group.of("none")
    return text + (f"; without any target label it is {_miou(final(sources[0]))}." if sources else ".")


def _beside_bound(standings: Standings, method: Method) -> str:
    if standings.bound is None:
        return "; without a run on all labels nobody can say what would be enough"
    bound = final(standings.bound)
    if standings.wanted(ENOUGH) is None and standings.unlabelled:
        name, mean = standings.unlabelled
        return f"; all labels reach {_miou(bound)}, no more than the {_miou(mean)} of {name}: that is no bound"
    first, kept = standings.reached(method, ENOUGH)
    limit = " is not reached" if first is None else f" was reached at {_percent(first)}, then lost"
    missing = f" ({ENOUGH:.0%}{limit})" if kept is None else ""
    part = final(method).value / max(bound.value, 1e-9)
    return f", {part:.0%} of the bound, which is {_miou(bound)} with all labels{missing}"


def _crossing(standings: Standings, method: Method) -> str:
    kept = standings.reached(method, ENOUGH).kept
    if kept is None or kept > 0.99 * share(method) or _needless(standings):
        return ""
    return (
        f"Its curve keeps {ENOUGH:.0%} of the bound from {_percent(kept)} on, amid its rounds; "
        "a run that ends there may reach something else."
    )


def _told_apart(standings: Standings, method: Method) -> str:
    level = standings.level_of(method)
    if len(level) == 1:
        return "No other method has this budget."
    lower = standings.others(method).get(LOWER, [])
    start = "It is" if unequal(level) else "At the same budget it is"
    return f"{start} distinguishably better than {_names(lower) or 'no other method'}."


def _lone(standings: Standings, method: Method) -> str:
    """What has too few seeds to stand for or against the choice."""
    others = standings.others(method)
    lone = [other for what, found in others.items() if what not in {LOWER, SAME, HIGHER} for other in found]
    if len(method.seeds) > 1:
        lone += [other for other in standings.group.of("bought") if len(other.seeds) == 1 and other not in lone]
    names = [f"{other.label}, {_miou(final(other))}" for other in lone if other is not method]
    return f"Not told apart for lack of seeds: {'; '.join(names)}." if names else ""


def _cheaper(standings: Standings, method: Method) -> str:
    """The best of a smaller budget from which the choice can not be told."""
    for other in map(standings.best, standings.levels):
        difference = paired_difference(finals(other), finals(method))
        if difference and share(other) < share(method) and told(difference) in {SAME, HIGHER}:
            what = "not distinguishable from it" if told(difference) == SAME else "higher on the seeds that both have"
            figures = f"{_percent(share(other))} of the pool, {_points(difference)}"
            return f"A smaller budget is {what}: {other.name} ({figures})."
    return ""


def _last_round(method: Method) -> str:
    pairs = [run.stages[-2:] for run in method.runs if len(run.stages) > 2]
    gains = [after.miou - before.miou for before, after in pairs]
    if len(gains) < len(method.runs) or any(map(math.isnan, gains)):
        return ""
    gain = mean_of(gains)
    unclear = ", not distinguishable from none" if told(gain) == SAME else ""
    return f"Its last round brought {_points(gain)}{unclear}."


def _seeds(level: list[Method]) -> str:
    fewest = min(len(method.seeds) for method in level)
    if fewest >= FEW_SEEDS:
        return ""
    return f"Not every method of this budget has {FEW_SEEDS} seeds (the fewest: {fewest}): a difference may be chance."


def _names(methods: list[Method]) -> str:
    return ", ".join(method.name for method in methods)


def _miou(mean: Mean) -> str:
    half = "" if mean.half is None else f" ± {100 * mean.half:.1f}"
    return f"{100 * mean.value:.1f}{half}% mIoU ({mean.seeds} seed{'s' * (mean.seeds != 1)})"


def _points(difference: Mean) -> str:
    half = "" if difference.half is None else f" ± {100 * difference.half:.1f}"
    return f"{100 * difference.value:+.1f}{half} points of mIoU"


def _percent(part: float) -> str:
    return f"{100 * part:.2f}%"
