"""Results beside each other: each protocol has a table of its own, so that no column mixes them."""

import csv
import json
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, replacing
from ripu_lightning.report.page.sheet import unspread
from ripu_lightning.report.result import NAME, Result, read_result

UNTOUCHED = "the runs themselves are untouched"
"""Said where a file of a report can not be written."""
WIDTH = 160
"""Characters a line, where no terminal says how many there are."""


class Entry(NamedTuple):
    """A result and the file it was read from."""

    path: Path
    result: Result


def read_entries(paths: Sequence[Path]) -> list[Entry]:
    """The results in files and, at any depth, in folders; each file once, in order of their names.

    A file that can not be read is told and left out, unless the command names it or its run folder.

    Raises:
        UserError: a path that is not there, that holds no result, or a named file that is no result.
    """
    named: dict[Path, bool] = {}  # file -> whether the command names it, and not only a folder somewhere above it
    for path in paths:
        files = sorted(path.rglob(NAME)) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path}: no {NAME} in it; give folders that ripu-train or ripu-evaluate wrote")
        known = {file.resolve() for file in named}
        named |= {file: file in {path, path / NAME} for file in files if file.resolve() not in known}
    found = [_read_entry(file, directly) for file, directly in named.items()]
    entries = [entry for entry in found if entry is not None]
    if not entries:
        raise UserError(f"{paths[0]}: no {NAME} in it can be read; see above")
    return entries


def _read_entry(path: Path, directly: bool) -> Entry | None:
    try:
        return Entry(path, read_result(path))
    except UserError as error:
        if directly:
            raise
        print(f"left out: {error}", file=sys.stderr)
        return None


def print_results(entries: Sequence[Entry], console: Console | None = None) -> None:
    """Print a table for each protocol, a row a result, and below them what the protocols are and differ in.

    Args:
        entries: one or more.
        console: where to print; standard output unless given.
    """
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    protocols = protocols_of(entries)
    for key, (name, protocol) in protocols.items():
        results = [result for _, result in entries if _key(result) == key]
        console.print(_table(results, list(protocol["subsets"]), name if len(protocols) > 1 else None))
    _print_legend(list(protocols.values()), console)


def write_results(entries: Sequence[Entry], path: Path) -> None:
    """Write the results as CSV: a row a result, with its protocol's name and parts beside the figures.

    Raises:
        UserError: the file can not be written.
    """
    protocols = protocols_of(entries)
    rows = [_csv_row(entry, protocols[_key(entry.result)][0]) for entry in entries]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(map(unspread, columns)))
    writer.writeheader()
    writer.writerows([{unspread(column): unspread(value) for column, value in row.items()} for row in rows])
    with explained(path, UNTOUCHED), replacing(path, UNTOUCHED) as file:
        file.write(text.getvalue().encode())


def protocols_of(entries: Sequence[Entry]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The protocols of some results, each with a short name, in order of appearance; a key tells equal ones."""
    found = {_key(entry.result): entry.result.protocol for entry in entries}
    return {key: (f"P{number}", protocol) for number, (key, protocol) in enumerate(found.items(), start=1)}


def budget_text(budget: dict[str, Any]) -> str:
    """A budget in a few words."""
    if budget["unit"] == "all":
        return "all labels"
    if budget["rounds"] is None:
        return "unknown"
    if not budget["rounds"]:
        return "none"
    done = f"{budget['rounds_done']} of " if budget["rounds_done"] not in {None, budget["rounds"]} else ""
    return f"{budget['unit']} {budget['amount']:g} per {budget['per']}, {done}{budget['rounds']} rounds"


def protocol_text(protocol: dict[str, Any], in_full: bool = False) -> str:
    """A protocol in a line; ``in_full`` names its classes and subsets."""
    classes, data, size = protocol["classes"], protocol["data"], protocol["input_size"]
    named = f" ({', '.join(classes)})" if in_full else ""
    means = [f"mean of {name}: {', '.join(members)}" for name, members in protocol["subsets"].items() if in_full]
    parts = [
        f"{len(classes)} classes{named}",
        *means,
        f"{protocol['images']} images, " + (f"data {data[:8]}" if data else "data unknown, so perhaps not the same"),
        f"input {size[0]}x{size[1]}" if size else "input as stored",
        protocol["inference"]["title"],
        str(protocol["precision"]),
    ]
    return "; ".join(parts)


def _table(results: Sequence[Result], subsets: Sequence[str], title: str | None) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("run", "strategy", "budget"):
        table.add_column(name, overflow="fold", min_width=8)
    for name in ("% bought", "seed", "mIoU %", *(f"of {escape(subset)} %" for subset in subsets)):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        start = [escape(result.name), escape(result.strategy or "–"), escape(budget_text(result.budget))]
        figures = [_percent(value, 1) for value in (result.miou, *(result.subsets[subset] for subset in subsets))]
        table.add_row(*start, _percent(result.budget["share"], 2), str(result.seed), *figures)
    return table


def _print_legend(protocols: Sequence[tuple[str, dict[str, Any]]], console: Console) -> None:
    if len(protocols) == 1:
        console.print(Text(f"protocol: {protocol_text(protocols[0][1])}"))
        return
    parts = [part for part in protocols[0][1] if len({json.dumps(each[part]) for _, each in protocols}) > 1]
    differing = ", ".join(part.replace("_", " ") for part in parts)
    console.print(
        f"figures of different tables can not be compared, as their protocols differ in: {differing}",
        highlight=False,
        markup=False,
    )
    in_full = bool({"classes", "subsets"} & set(parts))
    for name, protocol in protocols:
        console.print(Text(f"{name}: {protocol_text(protocol, in_full)}"))


def _key(result: Result) -> str:
    return json.dumps(result.protocol, sort_keys=True)


def _percent(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f}"


def _csv_row(entry: Entry, protocol: str) -> dict[str, Any]:
    path, result = entry
    size, parts = result.protocol["input_size"], result.protocol
    return {
        "file": str(path),
        "name": result.name,
        "strategy": result.strategy,
        **result.budget,
        "seed": result.seed,
        "protocol": protocol,
        "classes": len(parts["classes"]),
        "images": parts["images"],
        "data": parts["data"],
        "input_size": f"{size[0]}x{size[1]}" if size else "",
        "inference": parts["inference"]["title"],
        "precision": parts["precision"],
        "miou": result.miou,
        **{f"miou_{name}": value for name, value in result.subsets.items()},
        "pixel_accuracy": result.pixel_accuracy,
        "class_accuracy": result.class_accuracy,
        **{f"iou/{name}": value for name, value in result.iou.items()},
        "config": result.config,
        **result.code,
    }
