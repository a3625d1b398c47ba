"""Charts as plotly figures, for the page."""

import math
from typing import Any

from plotly import graph_objects as go

from ripu_lightning.report.page.charts import Bars, Chart, Heat, Lines, Panel, Series

_DASHES = ("solid", "dash", "dot", "dashdot")
_HATCHES = ("", "/", "x", ".")
_MARKS = ("circle", "square", "diamond", "triangle-up", "x")


def plot(chart: Chart) -> str:
    """A chart as plotly's JSON; text of it that comes from files is escaped, as plotly reads some HTML."""
    figure = _lines(chart) if isinstance(chart, Lines) else _bars(chart) if isinstance(chart, Bars) else _heat(chart)
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 56, "r": 12, "t": 48 if figure.layout.updatemenus else 12, "b": 48},
        legend={"orientation": "h", "y": -0.24, "yanchor": "top"},
        hoverlabel={"namelength": -1},
    )
    return str(figure.to_json())


def _lines(chart: Lines) -> go.Figure:
    figure = go.Figure()
    owners = []
    for index, panel in enumerate(chart.panels):
        traces = _traces(panel)
        owners += [index] * len(traces)
        figure.add_traces([trace.update(visible=index == 0) for trace in traces])
    figure.update_xaxes(title=chart.x, rangemode="tozero", automargin=True)
    figure.update_yaxes(title=chart.y, automargin=True)
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
        dash = "dot" if label.startswith("source") else "dash"
        line = {"dash": dash, "color": "#888888"}
        found.append(go.Scatter(x=[0, right], y=[height] * 2, mode="lines", name=_safe(label), line=line))
    for series in panel.series:
        band = _band(series)
        found += [band] if band else []
        found.append(_curve(series))
    return found


def _curve(series: Series) -> Any:
    halves = ["one seed" if half is None else f"± {half:.1f}" for half in series.halves]
    return go.Scatter(
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


def _band(series: Series) -> Any:
    points = zip(series.x, series.y, series.halves, strict=True)
    known = [(x, y - half, y + half) for x, y, half in points if half is not None]
    if len(known) < 2:
        return None
    x, low, high = (list(column) for column in zip(*known, strict=True))
    return go.Scatter(
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


def _bars(chart: Bars) -> go.Figure:
    categories = list(map(_safe, chart.categories))
    bars = [
        go.Bar(
            x=categories,
            y=[None if math.isnan(value) else value for value in values],
            name=_safe(label),
            marker={"color": style.colour, "pattern": {"shape": _HATCHES[style.texture]}},
            hovertemplate="%{x}: %{y:.2f}%",
        )
        for label, style, values in chart.series
    ]
    figure = go.Figure(bars)
    figure.update_yaxes(title=chart.y, automargin=True)
    figure.update_xaxes(automargin=True, tickangle=-40)
    figure.update_layout(legend={"y": -0.35})
    return figure


def _heat(chart: Heat) -> go.Figure:
    labels = list(map(_safe, chart.labels))
    values = [[None if math.isnan(value) else value for value in row] for row in chart.values]
    heat = go.Heatmap(z=values, x=labels, y=labels, zmin=0, zmax=1, colorscale="Viridis", texttemplate="%{z:.2f}")
    figure = go.Figure(heat)
    figure.update_xaxes(automargin=True, tickangle=-40)
    figure.update_yaxes(automargin=True, autorange="reversed")
    return figure


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("%{", "%&#123;")
