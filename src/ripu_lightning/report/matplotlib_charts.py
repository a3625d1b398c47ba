"""Charts as matplotlib figures: PNG and PDF files."""

import math
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ripu_lightning.report.chart_types import BarChart, Chart, HeatMap, LineChart, Panel

_ACROSS = 4  # panels a row
_DASHES = ("-", "--", ":", "-.")
_HATCHES = ("", "//", "xx", "..")
_MARKS = ("o", "s", "D", "^", "X")
_HANDLE, _LETTER, _LINE = 0.7, 0.065, 0.17  # inches that an entry of a legend takes


def draw(chart: Chart) -> Figure:
    """One chart."""
    if isinstance(chart, LineChart):
        return _lines(chart)
    return _bars(chart) if isinstance(chart, BarChart) else _heat_map(chart)


def chart_file(chart: Chart, kind: str = "png") -> bytes:
    """A chart as a file, ``png`` or ``pdf``."""
    return figure_file(draw(chart), kind)


def figure_file(figure: Figure, kind: str = "png") -> bytes:
    """A figure as a file; the same figure gives the same bytes, as no time of writing is in it."""
    content = BytesIO()
    figure.savefig(content, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {"Software": None})
    return content.getvalue()


def _lines(chart: LineChart) -> Figure:
    across = min(_ACROSS, len(chart.panels))
    down = -(-len(chart.panels) // across)
    size = (7.0, 3.6) if down * across == 1 else (3.2 * across, 2.6 * down)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid[len(chart.panels) :]:
        axes.set_visible(False)
    for axes, panel in zip(grid, chart.panels, strict=False):
        _draw_panel(axes, panel)
        axes.set_title(_plain(panel.title) if len(chart.panels) > 1 else "", fontsize=9)
    figure.supxlabel(chart.x, fontsize=9)
    figure.supylabel(chart.y, fontsize=9)
    _legend(figure, grid[0])
    return figure


def _draw_panel(axes: Axes, panel: Panel) -> None:
    for label, height in panel.lines:
        dashes = ":" if label.startswith("source") else "--"
        axes.axhline(height, color="#555555", linestyle=dashes, label=_plain(label))
    for series in panel.series:
        colour, texture, shape = series.style
        label = _plain(series.label) or "_"  # what begins with an underscore is not in the legend
        axes.plot(series.x, series.y, _MARKS[shape] + _DASHES[texture], color=colour, markersize=4, label=label)
        for x, y, text in zip(series.x, series.y, series.texts, strict=False):
            if not math.isnan(y):
                axes.annotate(text, (x, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=9)
        known = [(x, y, half) for x, y, half in zip(series.x, series.y, series.halves, strict=True) if half is not None]
        if known:
            x, y, half = np.array(known).T
            axes.fill_between(x, y - half, y + half, color=colour, alpha=0.15, linewidth=0)
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low), max(1.0, high))  # an interval may leave what an IoU can be
    _tidy(axes)


def _bars(chart: BarChart) -> Figure:
    figure = Figure(figsize=(max(6.0, 0.6 * len(chart.categories) + 2), 3.6), dpi=150, layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(chart.series)
    for index, (label, style, values) in enumerate(chart.series):
        places = np.arange(len(values)) - 0.4 + width * (index + 0.5)
        bars = axes.bar(places, values, width, color=style.colour, label=_plain(label))
        for bar in bars:
            bar.set(hatch=_HATCHES[style.texture], edgecolor="white", linewidth=0)
    axes.set_xticks(range(len(chart.categories)), list(map(_plain, chart.categories)), rotation=40, ha="right")
    axes.set_ylabel(chart.y)
    _legend(figure, axes)
    _tidy(axes)
    return figure


def _heat_map(chart: HeatMap) -> Figure:
    side = 2.5 + 0.55 * len(chart.labels)
    figure = Figure(figsize=(side + 1, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(np.array(chart.values, dtype=float), vmin=0, vmax=1, cmap="Blues")
    labels = list(map(_plain, chart.labels))
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel=chart.x, ylabel=chart.y, title=chart.title)
    for (row, column), value in np.ndenumerate(np.array(chart.values, dtype=float)):
        if math.isnan(value) or value >= 0.005:  # less would be printed as 0
            text, colour = f"{100 * value:.0f}", "white" if value > 0.6 else "black"
            axes.text(column, row, "–" if math.isnan(value) else text, ha="center", va="center", size=8, color=colour)
    figure.colorbar(image, format=lambda share, _: f"{share:.0%}", shrink=0.8)
    return figure


def _legend(figure: Figure, axes: Axes) -> None:
    """Above the panels, in as many columns as the longest label allows; the figure grows by its lines."""
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = int(np.clip(figure.get_figwidth() // (_HANDLE + _LETTER * longest), 1, 3))
    figure.set_figheight(figure.get_figheight() + _LINE * -(-len(labels) // columns))
    options = {"frameon": False, "fontsize": 8, "handlelength": 3.5}
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, **options)


def _tidy(axes: Axes) -> None:
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # or matplotlib would set it as mathematics
