"""Charts as plotly figures, for the page."""

import math
from typing import Any

from plotly import graph_objects as go

from ripu_lightning.report.chart_types import BarChart, Chart, HeatMap, LineChart, Panel, Series

_DASHES = ("solid", "dash", "dot", "dashdot")
_HATCHES = ("", "/", "x", ".")
_MARKS = ("circle", "square", "diamond", "triangle-up", "x")


def plotly_json(chart: Chart) -> str:
    """A chart as plotly's JSON; text of it that comes from files is escaped, as plotly reads some HTML."""
    draw: Any = {LineChart: _lines, BarChart: _bars, HeatMap: _heat_map}[type(chart)]
    figure = draw(chart)
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 12, "t": 48 if figure.layout.updatemenus else 12, "b": 48},
        legend={"orientation": "h", "y": -0.35 if isinstance(chart, BarChart) else -0.24, "yanchor": "top"},
        hoverlabel={"namelength": -1},
    )
    return str(figure.to_json())


def _lines(chart: LineChart) -> go.Figure:
    figure, owners = go.Figure(), []
    for index, panel in enumerate(chart.panels):
        traces = _traces(panel)
        owners += [index] * len(traces)
        figure.add_traces([trace.update(visible=index == 0) for trace in traces])
    figure.update_xaxes(title=chart.x, rangemode="tozero")
    figure.update_yaxes(title=chart.y)
    if len(chart.panels) > 1:
        buttons = [
            {"label": _safe(panel.title), "method": "update", "args": [{"visible": [each == index for each in owners]}]}
            for index, panel in enumerate(chart.panels)
        ]
        menu = {"buttons": buttons, "x": 0, "xanchor": "left", "y": 1.16, "yanchor": "top", "bgcolor": "#eeeeee"}
        figure.update_layout(updatemenus=[{**menu, "font": {"color": "#111111"}}])
    return figure


def _traces(panel: Panel) -> list[Any]:
    right = max([0.0, *(value for series in panel.series for value in series.x)])
    found: list[Any] = []
    for label, height in panel.lines:
        line = {"dash": "dot" if label.startswith("source") else "dash", "color": "#888888"}
        found.append(go.Scatter(x=[0, right], y=[height] * 2, mode="lines", name=_safe(label), line=line))
    for series in panel.series:
        halves = ["one seed" if half is None else f"± {half:.1f}" for half in series.halves]
        line = go.Scatter(
            x=series.x,
            y=series.y,
            customdata=halves,
            mode="lines+markers",
            name=_safe(series.label),
            legendgroup=_safe(series.label),
            line={"color": series.style.colour, "dash": _DASHES[series.style.texture]},
            marker={"symbol": _MARKS[series.style.shape]},
            hovertemplate="%{x:.2f}%: %{y:.1f} %{customdata}",
        )
        found += [*_band(series), line]
    return found


def _band(series: Series) -> list[Any]:
    points = zip(series.x, series.y, series.halves, strict=True)
    known = [(x, y - half, y + half) for x, y, half in points if half is not None]
    if len(known) < 2:
        return []
    x, low, high = (list(column) for column in zip(*known, strict=True))
    band = go.Scatter(
        x=x + x[::-1],
        y=high + low[::-1],
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor=series.style.colour,
        opacity=0.18,
        hoverinfo="skip",
        showlegend=False,
        legendgroup=_safe(series.label),
    )
    return [band]


def _bars(chart: BarChart) -> go.Figure:
    categories = list(map(_safe, chart.categories))
    bars = [
        go.Bar(
            x=categories,
            y=_gaps(values),
            name=_safe(label),
            marker={"color": style.colour, "pattern": {"shape": _HATCHES[style.texture]}},
            hovertemplate="%{x}: %{y:.2f}%",
        )
        for label, style, values in chart.series
    ]
    # Else plotly takes classes named "1" or "2024-01-01" for numbers and dates.
    return go.Figure(bars).update_yaxes(title=chart.y).update_xaxes(tickangle=-40, type="category")


def _heat_map(chart: HeatMap) -> go.Figure:
    labels, values = list(map(_safe, chart.labels)), list(map(_gaps, chart.values))
    heat = go.Heatmap(z=values, x=labels, y=labels, zmin=0, zmax=1, colorscale="Blues", texttemplate="%{z:.0%}")
    axes = go.Figure(heat).update_xaxes(tickangle=-40, type="category")
    return axes.update_yaxes(autorange="reversed", type="category")


def _gaps(values: Any) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "%&#123;")
