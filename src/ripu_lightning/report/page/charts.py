"""What the plots of a group show; matplotlib and plotly draw the same charts."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ripu_lightning.errors import UserError
from ripu_lightning.report.page.groups import Group, Method
from ripu_lightning.report.page.runs import Stage
from ripu_lightning.report.page.sheet import Sheet
from ripu_lightning.report.page.standings import Standings, curve, final, share
from ripu_lightning.report.page.statistics import Mean, mean_of, overlaps

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
"""After Okabe and Ito: told apart by most eyes, on white and on dark."""
TEXTURES = 4
"""Dashes and hatches that a drawing tells apart."""
SHAPES = 5
"""Of marks, likewise."""
_BOUGHT = "labels bought, % of the pool's pixels"


class Style(NamedTuple):
    """Looks: the colour is the family's, the texture (0..3: of lines and bars) the budget's.

    The shape (0..4: of marks) changes whenever either begins anew.
    """

    colour: str
    texture: int = 0
    shape: int = 0


@dataclass(frozen=True)
class Series:
    """Points of one method, in %; ``halves`` are half the widths of their intervals, None where there is none."""

    label: str
    style: Style
    x: list[float]
    y: list[float]
    halves: list[float | None]


@dataclass(frozen=True)
class Panel:
    """Series over one pair of axes, and horizontal lines ``(label, height)``."""

    title: str
    series: list[Series]
    lines: list[tuple[str, float]]


@dataclass(frozen=True)
class Lines:
    """Curves with intervals: one panel, or one for each class."""

    name: str
    title: str
    note: str
    x: str
    y: str
    panels: list[Panel]


@dataclass(frozen=True)
class Bars:
    """Bars of several labels beside each other in every category; ``series``: label, style, a value a category."""

    name: str
    title: str
    note: str
    y: str
    categories: list[str]
    series: list[tuple[str, Style, list[float]]]


@dataclass(frozen=True)
class Heat:
    """A square of shares, 0..1 or NaN."""

    name: str
    title: str
    note: str
    labels: list[str]
    values: list[list[float]]


Chart = Lines | Bars | Heat


def charts_of(standings: Standings, shares: Sheet | None) -> tuple[list[Chart], list[str]]:
    """All charts that the runs of a group allow, and a line for each that damaged files do not allow.

    Args:
        standings: of the group.
        shares: its table of the classes that were bought.
    """
    group, faults = standings.group, list[str]()
    found: list[Chart | None] = [_curves(group), _budgets(group), _class_curves(group), _class_bars(group, shares)]
    try:
        found.append(_overlap(standings))
    except UserError as error:  # only now are the stores read
        faults.append(f"There is no overlap of what was bought: {error}")
    return [chart for chart in found if chart is not None], faults


def styles(group: Group) -> dict[str, Style]:
    """The looks of each method that bought labels, by its label."""
    methods = group.of("bought")
    families = list(dict.fromkeys(method.family for method in methods))
    budgets = list(dict.fromkeys(method.budget for method in sorted(methods, key=share)))
    found = {}
    for method in methods:
        colours, colour = divmod(families.index(method.family), len(COLOURS))
        textures, texture = divmod(budgets.index(method.budget), TEXTURES)
        found[method.label] = Style(COLOURS[colour], texture, (colours + textures) % SHAPES)
    return found


def _curves(group: Group) -> Lines | None:
    panel = _panel(group, "mIoU", lambda stage: stage.miou, lambda method: final(method).value)
    note = "Mean over seeds after each round, with its 95% interval (Student's t) where there are two seeds or more."
    missing = [method.label for method in group.of("bought") if not curve(method).shares]
    note += f" Not drawn, as a seed has no table of rounds: {', '.join(missing)}." if missing else ""
    return Lines("curves", "mIoU over labels bought", note, _BOUGHT, "mIoU %", [panel]) if panel.series else None


def _class_curves(group: Group) -> Lines | None:
    names = list(group.methods[0].runs[0].result.iou) if group.methods else []
    panels = [_panel(group, name, _iou(name), _final_iou(name)) for name in names]
    note = "IoU of one class, mean over seeds after each round, with its 95% interval."
    whole = [panel for panel in panels if panel.series]
    return Lines("class_curves", "IoU by class over labels bought", note, _BOUGHT, "IoU %", whole) if whole else None


def _iou(name: str) -> Callable[[Stage], float]:
    return lambda stage: stage.iou[name]


def _final_iou(name: str) -> Callable[[Method], float]:
    def found(method: Method) -> float:
        values = [value for run in method.runs if (value := run.result.iou[name]) is not None]
        return mean_of(values).value if values else math.nan

    return found


def _panel(group: Group, title: str, figure: Callable[[Stage], float], last: Callable[[Method], float]) -> Panel:
    style, series = styles(group), []
    for method in group.of("bought"):
        shares, means = curve(method, figure)
        if means:
            series.append(_series(method.label, style[method.label], shares, means))
    references = [(method.label, 100 * last(method)) for kind in ("all", "none") for method in group.of(kind)]
    return Panel(title, series, [(label, height) for label, height in references if not math.isnan(height)])


def _budgets(group: Group) -> Lines | None:
    """The final mIoU of methods that were run with several budgets."""
    families: dict[str, list[Method]] = {}
    for method in sorted(group.of("bought"), key=share):
        families.setdefault(method.family, []).append(method)
    if all(len(members) < 2 for members in families.values()):
        return None
    series = []
    style = styles(group)
    for name, members in families.items():
        shares, means = [share(each) for each in members], [final(each) for each in members]
        series.append(_series(name, style[members[0].label]._replace(texture=0), shares, means))
    references = [(each.label, 100 * final(each).value) for kind in ("all", "none") for each in group.of(kind)]
    note = "Final mIoU of runs with different budgets, mean over seeds with its 95% interval."
    return Lines("budgets", "Final mIoU over the budget", note, _BOUGHT, "mIoU %", [Panel("mIoU", series, references)])


def _series(label: str, style: Style, shares: Sequence[float], means: Sequence[Mean]) -> Series:
    halves = [None if mean.half is None else 100 * mean.half for mean in means]
    return Series(label, style, [100 * each for each in shares], [100 * mean.value for mean in means], halves)


def _class_bars(group: Group, sheet: Sheet | None) -> Bars | None:
    if sheet is None:
        return None
    style = {**styles(group), "pool": Style("#999999")}
    titles = [column.title for column in sheet.columns][1:]
    columns = list(zip(*sheet.rows, strict=True))
    values = [[value if isinstance(value, float) else math.nan for value in column] for column in columns[1:]]
    series = [(title, style[title], column) for title, column in zip(titles, values, strict=True)]
    title, categories = "Classes of the bought pixels", list(map(str, columns[0]))
    return Bars("class_shares", title, sheet.note, "% of pixels", categories, series)


def _overlap(standings: Standings) -> Heat | None:
    """Of the budget with the most methods: how much of what was bought two methods have in common."""
    levels = [[each for each in level if any(run.labels for run in each.runs)] for level in standings.levels]
    level = max(levels, key=len, default=[])
    if len(level) < 2:
        return None
    by_seed = [{run.result.seed: run.labels for run in each.runs if run.labels} for each in level]
    shares = []
    for seed in sorted(set().union(*by_seed)):
        stores = {index: found[seed] for index, found in enumerate(by_seed) if seed in found}
        common = np.full((len(level), len(level)), np.nan)
        common[np.ix_(list(stores), list(stores))] = overlaps(list(stores.values()))
        shares.append(common)
    counts = (~np.isnan(shares)).sum(axis=0)
    means = np.divide(np.nansum(shares, axis=0), counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    note = (
        "Pixels bought by both as a share of those bought by either: 1 is the same labels, 0 none in common. Runs of "
        f"the same seed, mean over seeds; {level[0].budget}."
    )
    return Heat("overlap", "Overlap of what was bought", note, [each.label for each in level], means.tolist())
