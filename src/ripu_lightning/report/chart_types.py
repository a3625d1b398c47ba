"""What a chart shows: matplotlib draws it for files and loggers, plotly for the HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
"""After Okabe and Ito: most eyes can distinguish them, on white and on dark."""
TEXTURES, SHAPES = 4, 5
"""Dashes and hatches, and marks, that a drawing has."""


class Style(NamedTuple):
    """A colour, the texture of a line or bar (0..3), and the shape of its marks (0..4)."""

    colour: str
    texture: int = 0
    shape: int = 0


@dataclass(frozen=True)
class Series:
    """Points of one line.

    Attributes:
        label: in the legend; none if empty.
        style: its looks.
        x: positions.
        y: heights; NaN leaves a gap.
        halves: half the widths of their intervals; None where there is none.
        texts: above the points, if any.
    """

    label: str
    style: Style
    x: list[float]
    y: list[float]
    halves: Sequence[float | None]
    texts: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Panel:
    """Series over one pair of axes, and horizontal lines ``(label, height)``."""

    title: str
    series: list[Series]
    lines: list[tuple[str, float]]


@dataclass(frozen=True)
class LineChart:
    """Lines with intervals in one panel or several; ``x`` and ``y`` are the titles of the axes."""

    name: str
    title: str
    note: str
    x: str
    y: str
    panels: list[Panel]


@dataclass(frozen=True)
class BarChart:
    """Bars of several labels in every category; ``series``: label, style, one value a category."""

    name: str
    title: str
    note: str
    y: str
    categories: Sequence[str]
    series: Sequence[tuple[str, Style, Sequence[float]]]


@dataclass(frozen=True)
class HeatMap:
    """A square of shares, 0..1 or NaN, shown in %; ``x`` and ``y`` are the titles of the axes."""

    name: str
    title: str
    note: str
    labels: Sequence[str]
    values: Sequence[Sequence[float]]
    x: str = ""
    y: str = ""


Chart = LineChart | BarChart | HeatMap
