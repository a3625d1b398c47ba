"""A replay for people and programs: tables for the terminal, ``compare.json``, ``compare.csv`` and two diagrams."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ripu_lightning.files import replacing
from ripu_lightning.report.entries import WIDTH
from ripu_lightning.report.replay.counts import Counts, Figures, agreement, figures
from ripu_lightning.report.replay.drawing import draw_agreement, draw_classes

NOTE = "start the same command again"


@dataclass(frozen=True)
class Comparison:
    """What strategies buy with one network, beside each other.

    Attributes:
        about: plain values: of which checkpoint, data and budget.
        classes: their names.
        strategies: figures by name.
        pool: figures of all that could be bought; random expects its shares.
        agreement: ``[S][S]`` intersection over union of what two strategies buy; null where neither buys.
        seconds: by strategy, see :class:`~ripu_lightning.report.replay.callback.Replay`.
    """

    about: Mapping[str, Any]
    classes: Sequence[str]
    strategies: Mapping[str, Figures]
    pool: Figures
    agreement: list[list[float]]
    seconds: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(
        cls,
        counts: Counts,
        seconds: Mapping[str, Mapping[str, float]],
        classes: Sequence[str],
        about: Mapping[str, Any],
    ) -> "Comparison":
        """From counts, whose rows are in the order of ``seconds``."""
        *found, pool = figures(counts)
        strategies = dict(zip(seconds, found, strict=True))
        return cls(about, classes, strategies, pool, agreement(counts).tolist(), seconds)

    @property
    def errors(self) -> float:
        """Share of the pool's named pixels that the network gets wrong, 0..1."""
        return self.pool.precision


def write_comparison(found: Comparison, folder: Path) -> None:
    """Write the files into a folder, each atomically; it is made if missing.

    Raises:
        UserError: one can not be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        **found.about,
        "classes": list(found.classes),
        "strategies": {
            name: {**each._asdict(), "seconds": found.seconds[name]} for name, each in found.strategies.items()
        },
        "pool": found.pool._asdict(),
        "agreement": found.agreement,
    }
    names, table = list(found.strategies), [each.class_pixels for each in (*found.strategies.values(), found.pool)]
    for name, data in {
        "compare.json": json.dumps(_without_nan(content), indent=2, allow_nan=False).encode() + b"\n",
        "compare.csv": _csv(found).encode(),
        "agreement.png": draw_agreement(names, found.agreement),
        "classes.png": draw_classes([*names, "pool"], found.classes, table),
    }.items():
        with replacing(folder / name, NOTE) as file:
            file.write(data)


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    """Print what is bought, its classes, and how far the strategies agree.

    Args:
        found: the figures.
        console: where to print; standard output unless given.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    wrong = _percent(found.errors, 1)
    console.print(f"the network gets {wrong} % of the pool's pixels wrong", highlight=False)
    console.print(_purchases(found))
    console.print(_coverage(found))
    console.print(_agreement(found))


def _purchases(found: Comparison) -> Table:
    columns = ("% of pixels", "wrong %", "errors caught %", "x random", "boundary %", "void %")
    table = _table("bought", *columns)
    for name, each in found.strategies.items():
        table.add_row(
            escape(name),
            _percent(each.share, 2),
            _percent(each.precision, 1),
            _percent(each.recall, 2),
            _number(each.lift, 2),
            _percent(each.boundary, 1),
            _percent(each.void, 1),
        )
    table.add_section()
    pool = found.pool
    boundary, void = _percent(pool.boundary, 1), _percent(pool.void, 1)
    table.add_row("the whole pool", "100", _percent(pool.precision, 1), "100", "1", boundary, void)
    return table


def _coverage(found: Comparison) -> Table:
    table = _table("covered", "images", "% of classes", "balance", "rarest bought", "ms network", "ms scores")
    for name, each in found.strategies.items():
        seconds = found.seconds[name]
        table.add_row(
            escape(name),
            str(each.images),
            _percent(each.classes, 0),
            _number(each.balance, 2),
            escape(_rarest(each, found)),
            *(_number(1000 * seconds[part], 1) for part in ("network", "scoring")),
        )
    table.add_section()
    table.add_row("the whole pool", str(found.pool.images), "100", _number(found.pool.balance, 2), "", "", "")
    return table


def _rarest(each: Figures, found: Comparison) -> str:
    """The pool's class of which least was bought, with its pixels."""
    held = [
        (pixels, name)
        for pixels, name, pool in zip(each.class_pixels, found.classes, found.pool.class_pixels, strict=True)
        if pool
    ]
    if not held:  # void alone is left
        return "–"
    pixels, name = min(held)
    return f"{name} {pixels:,}"


def _agreement(found: Comparison) -> Table:
    names = list(found.strategies)
    table = _table("agreement (IoU %)", *map(escape, names))
    for name, row in zip(names, found.agreement, strict=True):
        table.add_row(escape(name), *(_percent(value, 1) for value in row))
    return table


def _csv(found: Comparison) -> str:
    """A row a strategy; the last one is the pool."""
    rows: list[dict[str, Any]] = []
    names = list(found.strategies)
    for name, each in (*found.strategies.items(), ("", found.pool)):
        row = {key: value for key, value in each._asdict().items() if key != "class_pixels"}
        seconds = found.seconds.get(name, {})
        shared = found.agreement[names.index(name)] if name else []
        rows.append(
            {
                "strategy": name or "(pool)",
                **row,
                **{f"seconds_{part}": value for part, value in seconds.items()},
                **{f"pixels/{key}": value for key, value in zip(found.classes, each.class_pixels, strict=True)},
                **{f"agreement/{key}": value for key, value in zip(names, shared, strict=bool(name))},
            }
        )
    text = StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_without_nan(rows))
    return text.getvalue()


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _table(first: str, *numbers: str) -> Table:
    table = Table()
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _percent(value: float, digits: int) -> str:
    return _number(100 * value, digits)


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
