"""Tables for the terminal: the rounds of a run, its start beside its end, and an evaluation's IoU by class."""

import math
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ripu_lightning.training.history import RoundRecord


def print_rounds(
    history: Sequence[RoundRecord], per_class: bool = False, console: Console | None = None, title: str = ""
) -> None:
    """Print one row a round, and the source-only start beside the end where there is more than the start.

    Args:
        history: the records of a run, in order.
        per_class: give every class too.
        console: where to print; standard output unless given.
        title: stands above the table.
    """
    console = console or Console()
    _print_title(title, console)
    console.print(_rounds(history))
    if len(history) > 1:
        console.print(_gains(history[0], history[-1], per_class))
    elif history and per_class:
        print_iou(history[0].iou, history[0].miou, console)


def print_iou(
    iou: Mapping[str, float],
    miou: float,
    console: Console | None = None,
    subsets: Mapping[str, float] | None = None,
) -> None:
    """Print the IoU (0..1) of each class and their means, in %.

    Args:
        iou: IoU by class; NaN for a class that does not occur.
        miou: their mean.
        console: where to print; standard output unless given.
        subsets: further means, by name.
    """
    table = _table("class", "IoU %")
    for name, value in iou.items():
        table.add_row(escape(name), _percent(value))
    table.add_section()
    table.add_row("mean", _percent(miou))
    for name, value in (subsets or {}).items():
        table.add_row(f"mean of {escape(name)}", _percent(value))
    (console or Console()).print(table)


def print_figures(figures: Mapping[str, float], title: str = "", console: Console | None = None) -> None:
    """Print what an evaluation found: IoU by class, their means, accuracies.

    Args:
        figures: see :func:`~ripu_lightning.evaluation.figures`.
        title: stands above the table.
        console: where to print; standard output unless given.
    """
    console = console or Console()
    _print_title(title, console)
    iou = {name.removeprefix("iou/"): value for name, value in figures.items() if name.startswith("iou/")}
    subsets = {name.removeprefix("miou_"): value for name, value in figures.items() if name.startswith("miou_")}
    print_iou(iou, figures["miou"], console, subsets)
    pixel, by_class = _percent(figures["pixel_accuracy"]), _percent(figures["class_accuracy"])
    console.print(f"accuracy %: {pixel} of the pixels, {by_class} as the mean over the classes", highlight=False)


def _print_title(title: str, console: Console) -> None:
    if title:
        console.print(f"predictions: {title}", highlight=False)


def _rounds(history: Sequence[RoundRecord]) -> Table:
    table = _table("round", "labelled pixels", "% of pixels", "mIoU %")
    for record in history:
        # A single row is a run that bought nothing: all labels or none, its config tells.
        name = "0 (source only)" if record.round == 0 and len(history) > 1 else str(record.round)
        table.add_row(name, f"{record.pixels:,}", f"{100 * record.share:.2f}", _percent(record.miou))
    return table


def _gains(start: RoundRecord, end: RoundRecord, per_class: bool) -> Table:
    table = _table("IoU %", "start", "end", "gain")
    if per_class:
        for name in start.iou:
            table.add_row(escape(name), *_gain(start.iou[name], end.iou.get(name, math.nan)))
        table.add_section()
    table.add_row("mIoU", *_gain(start.miou, end.miou))
    return table


def _gain(start: float, end: float) -> tuple[str, str, str]:
    return _percent(start), _percent(end), _percent(end - start, sign="+")


def _table(first: str, *numbers: str) -> Table:
    table = Table()
    table.add_column(first, overflow="fold")  # a long class name is broken; figures never are
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _percent(value: float, sign: str = "") -> str:
    return "–" if math.isnan(value) else f"{100 * value:{sign}.1f}"
