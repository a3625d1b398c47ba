"""The curve of mIoU over what was bought, as a PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from ripu_lightning.report.drawing import save_figure
from ripu_lightning.training.history import RoundRecord

_LINE, _START = "#1f5fa8", "#777777"


def save_curve(history: Sequence[RoundRecord], path: Path) -> None:
    """Draw mIoU (%) over the share of labelled target pixels (%), each point marked with its round's number.

    The first record, before anything was bought, is also drawn as a horizontal line. A NaN mIoU leaves a gap.

    Args:
        history: the records of a run, in order; at least one.
        path: the PNG to write or replace.

    Raises:
        UserError: it can not be written.
    """
    figure = Figure(figsize=(7, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    shares = [100 * record.share for record in history]
    values = [100 * record.miou for record in history]
    axes.axhline(values[0], color=_START, linestyle="--", linewidth=1.2, zorder=1)
    axes.plot(shares, values, color=_LINE, marker="o", markersize=6, linewidth=2, zorder=2)
    if not math.isnan(values[0]):
        axes.annotate(
            "source only",
            (1, values[0]),
            (0, -4),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="top",
            color=_START,
        )
    for record, share, value in zip(history, shares, values, strict=True):
        if not math.isnan(value):
            axes.annotate(str(record.round), (share, value), xytext=(0, 8), textcoords="offset points", ha="center")
    axes.set_xlabel("labelled target pixels (%), points marked with the round")
    axes.set_ylabel("mIoU (%)")
    axes.margins(x=0.06, y=0.14)
    if not any(shares):
        axes.set_xlim(-0.06, 1)
    axes.grid(color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
