"""Tables of ``ripu-labels list``: the rounds of a store, and its pixels by class."""

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ripu_lightning.labels import NOT_ASKED, VOID, LabelStore, Round
from ripu_lightning.labels.reading import RoundFile

_TEXTS = ("id", "when", "strategy", "annotator")
_NUMBERS = ("images", "queries", "pixels", "void")


def print_rounds(store: LabelStore, console: Console) -> None:
    """Print a row a round: those in force and their sums, then those set aside."""
    table = Table()
    for name in ("round", *_NUMBERS, *_TEXTS, "state"):
        table.add_column(name, justify="right" if name in ("round", *_NUMBERS) else "left", overflow="fold")
    for entry in store.rounds:
        file = store.file(entry.number)
        table.add_row(*_row(entry, file, "damaged" if file is None else "in force"))
    table.add_section()
    total = ("", f"{len(store.touched):,}", f"{store.queries:,}", f"{store.pixels:,}", f"{store.void:,}")
    table.add_row(*total, "", "", "", "", "all in force")
    table.add_section()
    opened = dict(store.open_set_aside())
    for entry in store.set_aside:
        state = "set aside" if entry in opened else "set aside, damaged"
        table.add_row(*_row(entry, opened.get(entry), state))
    console.print(table)


def print_classes(store: LabelStore, console: Console) -> None:
    """Print how many pixels each class got in the rounds in force, and how many got none."""
    counts = np.zeros(256, dtype=np.int64)
    for entry in store.rounds:
        file = store.file(entry.number)
        if file is not None:
            counts += file.tally()
    total = int(counts.sum() - counts[NOT_ASKED])
    table = Table()
    table.add_column("class", overflow="fold")
    for name in ("pixels", "%"):
        table.add_column(name, justify="right", no_wrap=True)
    for index, name in [*enumerate(store.classes), (VOID, "void")]:
        share = f"{100 * counts[index] / total:.2f}" if total else "–"
        table.add_row(shown(name), f"{counts[index]:,}", share)
    console.print(table)


def shown(text: str) -> Text:
    """Text of a store, which may be from elsewhere: no markup, and nothing that steers a terminal."""
    return Text(text if text.isprintable() else ascii(text)[1:-1])


def _row(entry: Round, file: RoundFile | None, state: str) -> list[Text | str]:
    images = "–" if file is None else f"{len(file.images):,}"
    numbers = [str(entry.number), images, f"{entry.queries:,}", f"{entry.pixels:,}", f"{entry.void:,}"]
    return [*numbers, *map(shown, (entry.id, entry.time, entry.strategy, entry.annotator)), state]
