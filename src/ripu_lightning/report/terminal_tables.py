"""Tables for the terminal: the rounds of a run, its start and its end, and an evaluation's IoU by class."""

import math
from collections.abc import Mapping, Sequence

from rich.console import Console

from ripu_lightning.report.data_table import Cell, Column, DataTable, percent
from ripu_lightning.training.history import RoundRecord


def print_rounds(
    history: Sequence[RoundRecord], per_class: bool = False, console: Console | None = None, title: str = ""
) -> None:
    """Print one row a round; where there is more than the start, also what was gained since (of every class too)."""
    console = console or Console()
    _print_title(title, console)
    rows: list[list[Cell]] = []
    for record in history:
        # A single row is a run without rounds: its config says whether it had all labels or none.
        name = "0 (source only)" if record.round == 0 and len(history) > 1 else str(record.round)
        rows.append([name, record.pixels, percent(record.share), percent(record.miou)])
    columns = [Column("round"), Column("labelled pixels"), Column("% of pixels", 2), Column("mIoU %")]
    DataTable("rounds", "", "", columns, rows).show(console)
    if history:
        print_without_truth(history[-1].iou, console)
    if len(history) > 1:
        _print_gains(history[0], history[-1], per_class, console)
    elif history and per_class:
        print_iou(history[0].iou, history[0].miou, console)


def print_iou(
    iou: Mapping[str, float], miou: float, console: Console | None = None, subsets: Mapping[str, float] | None = None
) -> None:
    """Print the IoU (0..1) of each class (NaN where it does not occur), their mean and those of subsets, in %."""
    means = {"mean": miou, **{f"mean of {name}": value for name, value in (subsets or {}).items()}}
    rows = [(name, percent(value)) for name, value in (*iou.items(), *means.items())]
    columns = [Column("class"), Column("IoU %")]
    DataTable("iou", "", "", columns, rows, frozenset({len(iou)})).show(console or Console())


def print_figures(figures: Mapping[str, float], title: str = "", console: Console | None = None) -> None:
    """Print what an evaluation found: ``miou``, ``miou_SUBSET``, the accuracies and ``iou/CLASS``, 0..1."""
    console = console or Console()
    _print_title(title, console)
    iou = {name.removeprefix("iou/"): value for name, value in figures.items() if name.startswith("iou/")}
    subsets = {name.removeprefix("miou_"): value for name, value in figures.items() if name.startswith("miou_")}
    print_iou(iou, figures["miou"], console, subsets)
    print_without_truth(iou, console)
    pixels, classes = (
        "–" if math.isnan(figures[name]) else f"{100 * figures[name]:.1f}"
        for name in ("pixel_accuracy", "class_accuracy")
    )
    console.print(f"accuracy %: {pixels} of the pixels, {classes} as the mean over the classes", highlight=False)


def print_without_truth(iou: Mapping[str, float], console: Console) -> None:
    """Name the classes, if any, that no pixel of the evaluation data has: no mean counts them."""
    names = [name for name, value in iou.items() if math.isnan(value)]
    if names and len(names) == len(iou):
        console.print("no pixel of the evaluation data has a class, so nothing was counted", highlight=False)
    elif names:
        console.print(
            f"without truth in the evaluation data, so in no mean: {', '.join(names)}", highlight=False, markup=False
        )


def _print_title(title: str, console: Console) -> None:
    if title:
        console.print(f"predictions: {title}", highlight=False)


def _print_gains(start: RoundRecord, end: RoundRecord, per_class: bool, console: Console) -> None:
    pairs = {name: (value, end.iou.get(name, math.nan)) for name, value in start.iou.items() if per_class}
    pairs["mIoU"] = start.miou, end.miou
    rows = [(name, *map(percent, (first, last, last - first))) for name, (first, last) in pairs.items()]
    columns = [Column("IoU %"), Column("start"), Column("end"), Column("gain", sign="+")]
    DataTable("gains", "", "", columns, rows, frozenset({len(rows) - 1} if per_class else ())).show(console)
