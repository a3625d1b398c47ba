"""The answer at the top of a group, in words: which strategy, how many labels, and how sure that is."""

import math

from ripu_lightning.report.comparing import Comparison, final, share
from ripu_lightning.report.groups import FEW_SEEDS, Method
from ripu_lightning.report.statistics import mean_of

ENOUGH = 0.95
"""Part of the bound that is taken for enough labels."""


def answer(comparison: Comparison) -> list[str]:
    """The headline, then the reasons and limits, a sentence or two each."""
    if not comparison.levels:
        return ["No finished run of this group bought labels: there is no strategy to choose."]
    method, needed = _choice(comparison)
    level = comparison.level_of(method)
    lines = [_headline(comparison, method, needed), _reached(comparison, method, needed)]
    lines += [_told_apart(comparison, method), _last_round(method), _seeds(level)]
    return [line for line in lines if line]


def _choice(comparison: Comparison) -> tuple[Method, float | None]:
    """Of the methods that are the best of their budgets: the first to come near the bound, else the highest mean."""
    best = [comparison.best(level) for level in comparison.levels]
    enough = [(found, method) for method in best if (found := comparison.needed(method, ENOUGH)) is not None]
    if enough:
        needed, method = min(enough, key=lambda each: each[0])
        return method, needed
    return max(best, key=lambda method: final(method).value), None


def _headline(comparison: Comparison, method: Method, needed: float | None) -> str:
    level = comparison.level_of(method)
    bought = _percent(share(method) if needed is None else needed)
    rivals = [other.label for other in comparison.rivals(level)]
    instead = f" (or {', '.join(rivals)}: not distinguishable)" if rivals else ""
    why = f"that reaches {ENOUGH:.0%} of the bound" if needed is not None else "the highest mean that was reached"
    use = f"use {method.label}{instead}, and label {bought} of the pool: {why}."
    if min(len(other.seeds) for other in level) == 1:
        return f"One seed is no basis for a choice. By that alone, {use}"
    return f"U{use[1:]}"


def _reached(comparison: Comparison, method: Method, needed: float | None) -> str:
    text = f"With {method.budget} ({_percent(share(method))} of the pool) it reaches {_miou(method)}"
    if comparison.bound:
        part = final(method).value / max(final(comparison.bound).value, 1e-9)
        text += f", {part:.0%} of the bound, which is {_miou(comparison.bound)} with all labels"
        text += f" ({ENOUGH:.0%} is not reached)" if needed is None else ""
    else:
        text += "; without a run on all labels nobody can say what would be enough"
    sources = comparison.group.of("none")
    return text + (f"; without any target label it is {_miou(sources[0])}." if sources else ".")


def _told_apart(comparison: Comparison, method: Method) -> str:
    level = comparison.level_of(method)
    if len(level) == 1:
        return "No other method has this budget."
    rivals = comparison.rivals(level)
    lower = [other.label for other in level if other is not method and other not in rivals]
    than = ", ".join(lower) or "no other method"
    return f"At the same budget it is distinguishably better than {than}."


def _last_round(method: Method) -> str:
    pairs = [run.stages[-2:] for run in method.runs if len(run.stages) > 2]
    gains = [after.miou - before.miou for before, after in pairs]
    if not gains or any(map(math.isnan, gains)):
        return ""
    gain = mean_of(gains)
    half = "" if gain.half is None else f" ± {100 * gain.half:.1f}"
    unclear = ", not distinguishable from none" if gain.half is not None and gain.holds_zero else ""
    return f"Its last round brought {100 * gain.value:+.1f}{half} points of mIoU{unclear}."


def _seeds(level: list[Method]) -> str:
    fewest = min(len(method.seeds) for method in level)
    if fewest >= FEW_SEEDS:
        return ""
    return f"Not every method of this budget has {FEW_SEEDS} seeds (the fewest: {fewest}): a difference may be chance."


def _miou(method: Method) -> str:
    mean = final(method)
    half = "" if mean.half is None else f" ± {100 * mean.half:.1f}"
    return f"{100 * mean.value:.1f}{half}% mIoU ({mean.seeds} seed{'s' * (mean.seeds != 1)})"


def _percent(part: float) -> str:
    return f"{100 * part:.2f}%"
