"""The charts of a group of comparable runs."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from ripu_lightning.errors import UserError
from ripu_lightning.report import chart_types as looks
from ripu_lightning.report.chart_types import BarChart, Chart, HeatMap, LineChart, Panel, Series, Style
from ripu_lightning.report.data_table import DataTable, percent
from ripu_lightning.report.page.comparable_groups import Group, Method
from ripu_lightning.report.page.group_statistics import GroupStatistics, curve, final, share
from ripu_lightning.report.page.run_folder import CurvePoint
from ripu_lightning.report.page.seed_statistics import Mean, mean_of, overlaps

_LABELLED = "labelled, % of the pool's pixels"


def charts_of(statistics: GroupStatistics, shares: DataTable | None) -> tuple[list[Chart], list[str]]:
    """All charts that the runs of a group allow, and a line for each that damaged files do not allow.

    ``shares`` is the table of the classes of the labels.
    """
    group, problems = statistics.group, list[str]()
    found: list[Chart | None] = [_curves(group), _budgets(group), _class_curves(group), _class_bars(group, shares)]
    try:
        found.append(_overlap(statistics))
    except UserError as error:  # only now are the answers read
        problems.append(f"There is no overlap of the queried pixels: {error}")
    return [chart for chart in found if chart is not None], problems


def styles(group: Group) -> dict[str, Style]:
    """The looks of each method with queries, by its label: the colour is its family's, the texture its budget's.

    The shape changes whenever colours or textures begin again.
    """
    methods = group.of("queried")
    families = list(dict.fromkeys(method.family for method in methods))
    budgets = list(dict.fromkeys(method.budget for method in sorted(methods, key=share)))
    found = {}
    for method in methods:
        colours, colour = divmod(families.index(method.family), len(looks.COLOURS))
        textures, texture = divmod(budgets.index(method.budget), looks.TEXTURES)
        found[method.label] = Style(looks.COLOURS[colour], texture, (colours + textures) % looks.SHAPES)
    return found


def _curves(group: Group) -> LineChart | None:
    panel = _panel(group, "mIoU", lambda point: point.miou, lambda method: final(method).value)
    note = "Mean over seeds after each round, with its 95% interval (Student's t) where there are two seeds or more."
    missing = [method.label for method in group.of("queried") if not curve(method)[0]]
    note += f" Not drawn, as a seed has no table of rounds: {', '.join(missing)}." if missing else ""
    return LineChart("curves", "mIoU over labels", note, _LABELLED, "mIoU %", [panel]) if panel.series else None


def _class_curves(group: Group) -> LineChart | None:
    def of(name: str) -> Panel:
        def last(method: Method) -> float:
            values = [value for run in method.runs if (value := run.result.iou[name]) is not None]
            return mean_of(values).value if values else math.nan

        return _panel(group, name, lambda point: point.iou[name], last)

    names = list(group.methods[0].runs[0].result.iou) if group.methods else []
    panels = [panel for panel in map(of, names) if panel.series]
    note = "IoU of one class, mean over seeds after each round, with its 95% interval."
    return LineChart("class_curves", "IoU by class over labels", note, _LABELLED, "IoU %", panels) if panels else None


def _panel(group: Group, title: str, figure: Callable[[CurvePoint], float], last: Callable[[Method], float]) -> Panel:
    style, series = styles(group), []
    for method in group.of("queried"):
        shares, means = curve(method, figure)
        series += [_series(method.label, style[method.label], shares, means)] if means else []
    return Panel(title, series, _references(group, last))


def _references(group: Group, last: Callable[[Method], float]) -> list[tuple[str, float]]:
    found = [(method.label, 100 * last(method)) for kind in ("all", "none") for method in group.of(kind)]
    return [(label, height) for label, height in found if not math.isnan(height)]


def _budgets(group: Group) -> LineChart | None:
    """The final mIoU of methods that were run with several budgets."""
    families: dict[str, list[Method]] = {}
    for method in sorted(group.of("queried"), key=share):
        families.setdefault(method.family, []).append(method)
    if all(len(members) < 2 for members in families.values()):
        return None
    style = styles(group)
    series = [
        _series(name, style[members[0].label]._replace(texture=0), list(map(share, members)), list(map(final, members)))
        for name, members in families.items()
    ]
    panel = Panel("mIoU", series, _references(group, lambda method: final(method).value))
    note = "Final mIoU of runs with different budgets, mean over seeds with its 95% interval."
    return LineChart("budgets", "Final mIoU over the budget", note, _LABELLED, "mIoU %", [panel])


def _series(label: str, style: Style, shares: Sequence[float], means: Sequence[Mean]) -> Series:
    halves = [percent(mean.half) for mean in means]
    return Series(label, style, [100 * each for each in shares], [100 * mean.value for mean in means], halves)


def _class_bars(group: Group, table: DataTable | None) -> BarChart | None:
    if table is None:
        return None
    style = {**styles(group), "pool": Style("#999999")}
    categories, *columns = zip(*table.rows, strict=True)
    series = [
        (title, style[title], [value if isinstance(value, float) else math.nan for value in column])
        for (title, *_), column in zip(table.columns[1:], columns, strict=True)
    ]
    return BarChart("class_shares", table.title, table.note, "% of pixels", list(map(str, categories)), series)


def _overlap(statistics: GroupStatistics) -> HeatMap | None:
    """For the budget with the most methods, how many queried pixels two methods have in common."""
    levels = [[each for each in level if any(run.labels for run in each.runs)] for level in statistics.levels]
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
        "Pixels queried by both in % of those queried by either: 100 is the same labels, 0 none in common. Runs of the "
        f"same seed, mean over seeds; {level[0].budget}."
    )
    return HeatMap("overlap", "Overlap of the queried pixels", note, [each.label for each in level], means.tolist())
