"""The commands of ``ripu-labels``; each returns its exit code."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ripu_lightning.errors import UserError
from ripu_lightning.files import first_line
from ripu_lightning.labels import NOT_QUERIED, VOID, LabelStore, Round
from ripu_lightning.labels.maintenance import merge_stores, require_empty, roll_back, skip_images, verify_store
from ripu_lightning.labels.manifest import NAME
from ripu_lightning.labels.rejection import reject_answers
from ripu_lightning.labels.round_file import RoundFile
from ripu_lightning.mask_values import is_wide, unlabelled_id, void_id
from ripu_lightning.untrusted import read_config

WIDTH = 160
"""Characters a line, where no terminal says how many there are."""
_NUMBERS = ("images", "queries", "pixels", "void")


def show(store: Path) -> int:
    """``list``: the rounds, their sums and the classes."""
    opened, console = LabelStore.salvage(_folder(store)), _console()
    _print_rounds(opened, console)
    _print_classes(opened, console)
    if opened.manifest.skipped:
        _say(console, f"never queried again: {', '.join(opened.manifest.skipped)}")
    return _name_damaged([opened], console)


def verify(store: Path) -> int:
    """``verify``: a line a file."""
    console = _console()
    states = verify_store(_folder(store))
    for state in states:
        _say(console, f"{state.state:<9}  {state.name}  {state.about}")
    lost = sum(state.lost for state in states)
    _say(console, f"{lost} committed files are damaged or missing" if lost else "all committed files are intact")
    return int(lost > 0)


def rollback(store: Path, to: str) -> int:
    """``rollback``: another head; then which rounds are active, and whether they can be read."""
    folder, console = _folder(store), _console()
    roll_back(folder, to)
    opened = LabelStore.salvage(folder)
    _say_active(opened, console)
    _name_damaged([opened], console)
    return 0  # the pointer was moved as requested


def reject(store: Path, to: str, images: Sequence[str], queries: Sequence[int]) -> int:
    """``reject``: what was rejected, which rounds are active, and what the run does next."""
    folder, console = _folder(store), _console()
    done = reject_answers(folder, to, images, queries)
    also = f", and their copies in {done.copies} other rounds" if done.copies else ""
    _say(
        console,
        f"rejected: {done.queries:,} answers about {done.images:,} images in round {done.round.number} "
        f"({done.round.id}){also}",
    )
    _say_active(LabelStore.salvage(folder), console)
    if done.again:
        checkpoint = store / "checkpoints" / "last.ckpt"
        _say(
            console,
            f"start the run again: it queries them again and keeps the other answers of round {done.again.number}. "
            f"Remove {checkpoint if checkpoint.is_file() else 'its last checkpoint'} where that was trained on the "
            "rejected answers; the run then trains again on the labels in this store",
        )
    if done.dropped:
        _say(
            console,
            f"round {done.dropped}, which waited for answers, was selected after these: it will be selected anew, and "
            "answers that are in its folder already are not in the label store",
        )
    for line in done.damaged:
        _say(console, f"not searched for copies: {line}")
    return int(bool(done.damaged))


def skip(store: Path, images: Sequence[str]) -> int:
    """``skip``: which images are never queried again."""
    manifest = skip_images(_folder(store), images)
    _say(
        _console(),
        f"skipped for good: {', '.join(images)}; {len(manifest.skipped):,} of {len(manifest.images):,} images are "
        "never queried again, also not by a round that waits for answers. Labels that they have stay",
    )
    return 0


def export(store: Path, folder: Path, kind: str, values: Literal["id", "index"] | None, through: int | None) -> int:
    """``export``: masks of the active rounds, and a line about what they hold."""
    console = _console()
    if kind == "coco" and values is not None:
        raise UserError("--values: a COCO file holds category ids, from 1; leave it out, or take --format png")
    require_empty(folder)
    opened = LabelStore.salvage(_folder(store))
    if through is not None and not 1 <= through <= len(opened.rounds):
        raise UserError(f"--through: expected an active round, 1 to {len(opened.rounds)}, got {through}")
    if kind == "png":
        opened.export_png(folder, values or "id", through)
        about = "class indices, 255 for void and unlabelled pixels: readers of labels refuse them"
        if values != "index":
            void, unlabelled = void_id(opened.class_map), unlabelled_id(opened.class_map)
            bits = " in 16 bits (label_bits: 16)" if is_wide(opened.class_map) else ""
            about = f"file ids of the class map{bits}, {void} for void and {unlabelled} for unlabelled pixels"
    else:
        file_names, about = _file_names(opened)
        opened.export_coco(folder / "annotations.json", through, file_names)
    _say(console, f"{len(opened.queried_images_through(through))} images written to {folder}: {about}")
    return _name_damaged([opened], console, through)


def merge(stores: Sequence[Path], into: Path) -> int:
    """``merge``: one store of all active rounds."""
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


def _say_active(store: LabelStore, console: Console) -> None:
    last = f"rounds 1 to {len(store.rounds)} ({store.rounds[-1].id})" if store.rounds else "no rounds"
    _say(console, f"active: {last}, {store.pixels:,} pixels; inactive: {len(store.inactive)} rounds")


def _file_names(store: LabelStore) -> tuple[dict[str, str], str]:
    """Image id -> path of its file, as far as the store's run says where its images are; and what was found out."""
    # Here, because the other commands do without them.
    from ripu_lightning.data.layout import Layout
    from ripu_lightning.experiment.recorded_config import follow_variables

    without = "file_name is the image's id, without suffix, for"
    path = store.folder.resolve().parent / "config.yaml"
    if not path.is_file():
        return {}, f"{without} there is no {path} of a run"
    try:
        target = follow_variables(read_config(path))["data"]["target"]
        if target["_target_"] != "ripu_lightning.data.FolderDataset":
            return {}, f"{without} data.target of {path} is no folder of images"
        layout = Layout(target["root"], target["split"], target["images"], None)
        found, folder = layout.list_images(), layout.folder_of_images
    except UserError as error:
        return {}, f"{without} the images were not found ({error})"
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return {}, f"{without} {path} describes no data set in data.target ({first_line(error)})"
    gone = [image_id for image_id in store.images if image_id not in found]
    if gone:
        return {}, f"{without} there is no image {gone[0]!r} in {folder}"
    return {name: found[name].relative_to(folder).as_posix() for name in store.images}, f"file_name is below {folder}"


def _print_rounds(store: LabelStore, console: Console) -> None:
    """A row a round: the active ones and their sums, then the inactive ones."""
    table = Table()
    for name in ("round", *_NUMBERS, "id", "when", "strategy", "annotator", "state"):
        table.add_column(name, justify="right" if name in ("round", *_NUMBERS) else "left", overflow="fold")
    for entry in store.rounds:
        file = store.file(entry.number)
        table.add_row(*_row(entry, file, "damaged" if file is None else "active"))
    table.add_section()
    total = ("", f"{len(store.queried_images):,}", f"{store.queries:,}", f"{store.pixels:,}", f"{store.void:,}")
    table.add_row(*total, "", "", "", "", "all active")
    table.add_section()
    opened = dict(store.open_inactive())
    for entry in store.inactive:
        state = "inactive" if entry in opened else "inactive, damaged"
        if entry.sha256 in store.manifest.rejected:
            state += ", answers rejected"
        table.add_row(*_row(entry, opened.get(entry), state))
    console.print(table)


def _row(entry: Round, file: RoundFile | None, state: str) -> list[Text | str]:
    images = "–" if file is None else f"{len(file.images):,}"
    numbers = [str(entry.number), images, f"{entry.queries:,}", f"{entry.pixels:,}", f"{entry.void:,}"]
    return [*numbers, *map(_shown, (entry.id, entry.time, entry.strategy, entry.annotator)), state]


def _print_classes(store: LabelStore, console: Console) -> None:
    """How many pixels each class got in the active rounds, and how many got none."""
    files = [file for entry in store.rounds if (file := store.file(entry.number)) is not None]
    counts = sum((file.tally() for file in files), np.zeros(256, dtype=np.int64))
    total = int(counts.sum() - counts[NOT_QUERIED])
    table = Table()
    table.add_column("class", overflow="fold")
    for name in ("pixels", "%"):
        table.add_column(name, justify="right", no_wrap=True)
    for index, name in [*enumerate(store.classes), (VOID, "void")]:
        share = f"{100 * counts[index] / total:.2f}" if total else "–"
        table.add_row(_shown(name), f"{counts[index]:,}", share)
    console.print(table)


def _name_damaged(stores: Sequence[LabelStore], console: Console, through: int | None = None) -> int:
    """Exit code: 1 after naming what could not be used."""
    lines = [line for store in stores for number, line in store.damaged.items() if through is None or number <= through]
    for line in lines:
        _say(console, f"left out: {line}")
    return int(bool(lines))


def _say(console: Console, line: str) -> None:
    console.print(_shown(line), soft_wrap=True, highlight=False)


def _shown(text: str) -> Text:
    """Text of a store, which may be from other people: no markup, and nothing that steers a terminal."""
    return Text(text if text.isprintable() else ascii(text)[1:-1])


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)
