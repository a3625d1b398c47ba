"""What ``ripu-labels`` does; each command returns its exit code."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ripu_lightning.cli.labels_table import print_classes, print_rounds, shown
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.manifest import NAME
from ripu_lightning.labels.merging import merge_stores, require_empty
from ripu_lightning.labels.store import roll_back
from ripu_lightning.labels.verifying import verify_store

WIDTH = 160
"""Characters a line, where no terminal says how many there are."""


def show(store: Path) -> int:
    """``list``: the rounds, their sums and the classes."""
    opened, console = LabelStore.salvage(_folder(store)), _console()
    print_rounds(opened, console)
    print_classes(opened, console)
    return _name_damaged([opened], console)


def verify(store: Path) -> int:
    """``verify``: a line a file."""
    console = _console()
    states = verify_store(_folder(store))
    for state in states:
        _say(console, f"{state.state:<9}  {state.name}  {state.about}")
    lost = sum(state.lost for state in states)
    _say(console, f"{lost} committed files are not as they were" if lost else "everything committed is as it was")
    return int(lost > 0)


def rollback(store: Path, to: str) -> int:
    """``rollback``: another head; then what is in force, and whether it can be read."""
    folder, console = _folder(store), _console()
    roll_back(folder, to)
    opened = LabelStore.salvage(folder)
    last = f"rounds 1 to {len(opened.rounds)} ({opened.rounds[-1].id})" if opened.rounds else "no rounds"
    _say(console, f"in force: {last}, {opened.pixels:,} pixels; set aside: {len(opened.set_aside)} rounds")
    _name_damaged([opened], console)
    return 0  # the pointer was moved, as asked


def export(store: Path, folder: Path, kind: str, through: int | None) -> int:
    """``export``: masks of the rounds in force."""
    console = _console()
    require_empty(folder)
    opened = LabelStore.salvage(_folder(store))
    if through is not None and not 1 <= through <= len(opened.rounds):
        raise UserError(f"--through: expected a round in force, 1 to {len(opened.rounds)}, got {through}")
    if kind == "png":
        opened.export_png(folder, through=through)
    else:
        opened.export_coco(folder / "annotations.json", through)
    _say(console, f"{len(opened.touched_through(through))} images written to {folder}")
    return _name_damaged([opened], console, through)


def merge(stores: Sequence[Path], into: Path) -> int:
    """``merge``: one store of all rounds in force."""
    opened, console = [LabelStore.salvage(_folder(store)) for store in stores], _console()
    merged, conflicts = merge_stores(opened, into)
    pixels = sum(entry.pixels for entry in merged.rounds)
    _say(console, f"{len(merged.rounds)} rounds, {pixels:,} pixels in {into}")
    if conflicts:
        _say(console, f"{conflicts:,} pixels are answered differently by two of the stores; the later round counts")
    return _name_damaged(opened, console)


def _folder(path: Path) -> Path:
    """The store's folder: the path itself, or ``labels`` in a run's folder."""
    inside = path / "labels"
    return inside if not (path / NAME).is_file() and (inside / NAME).is_file() else path


def _name_damaged(stores: Sequence[LabelStore], console: Console, through: int | None = None) -> int:
    """Exit code: 1 after naming what could not be used."""
    lines = [line for store in stores for number, line in store.damaged.items() if through is None or number <= through]
    for line in lines:
        _say(console, f"left out: {line}")
    return int(bool(lines))


def _say(console: Console, line: str) -> None:
    console.print(shown(line), soft_wrap=True, highlight=False)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)
