"""Results of many runs: each protocol has a table of its own, so that no column mixes them."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.text import Text

from ripu_lightning.errors import UserError
from ripu_lightning.files import write_bytes
from ripu_lightning.report.data_table import Cell, Column, DataTable, csv_text, percent, wide
from ripu_lightning.report.result import NAME, BudgetSpent, Protocol, Result, read_result

UNTOUCHED = "the runs themselves are untouched"
"""Said where a file of a report cannot be written."""


class StoredResult(NamedTuple):
    """A result and the file it was read from."""

    path: Path
    result: Result


def read_results(paths: Sequence[Path]) -> list[StoredResult]:
    """The results in files and, at any depth, in folders; each file once, in order of their names.

    A file that cannot be read is reported and left out, unless a path names it or its run folder.

    Raises:
        UserError: a path that does not exist, that holds no result, or a named file that is no result.
    """
    named: dict[Path, bool] = {}  # file -> whether a path names it, and not only a folder somewhere above it
    for path in paths:
        files = sorted(path.rglob(NAME)) if path.is_dir() else [path]
        if not files:
            raise UserError(f"{path}: no {NAME} in it; give folders that ripu-train or ripu-evaluate wrote")
        known = {file.resolve() for file in named}
        named |= {file: file in {path, path / NAME} for file in files if file.resolve() not in known}
    found = []
    for file, directly in named.items():
        try:
            found.append(StoredResult(file, read_result(file)))
        except UserError as error:
            if directly:
                raise
            print(f"left out: {error}", file=sys.stderr)
    if not found:
        raise UserError(f"{paths[0]}: no {NAME} in it can be read; see above")
    return found


def print_results(results: Sequence[StoredResult], console: Console | None = None) -> None:
    """Print a table for each protocol, a row a result, and below them what the protocols are and differ in."""
    console = wide(console)
    protocols = _protocols_of(results)
    for key, (name, protocol) in protocols.items():
        own, subsets = [result for _, result in results if _key(result) == key], protocol["subsets"] if protocol else ()
        _table(own, list(subsets), name if len(protocols) > 1 else "").show(console)
        missing = dict.fromkeys(each for result in own for each, iou in result.iou.items() if iou is None)
        if missing:
            console.print(Text(f"without truth in the evaluation data, so in no mean: {', '.join(missing)}"))
    _print_legend(list(protocols.values()), console)
    for path, result in results:
        for line in result.warnings:
            console.print(Text(f"warning: {path.parent}: {line}"))


def write_results(results: Sequence[StoredResult], path: Path) -> None:
    """Write the results as CSV, a row each, with the protocol's name and parts. Raises UserError where it cannot."""
    protocols = _protocols_of(results)
    rows = [_csv_row(each, protocols[_key(each.result)][0]) for each in results]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    write_bytes(path, csv_text([columns, *([row.get(name) for name in columns] for row in rows)]).encode(), UNTOUCHED)


def budget_text(budget: BudgetSpent) -> str:
    """A budget in a few words."""
    if budget["unit"] == "all":
        return "all labels"
    if budget["rounds"] is None:
        return "unknown"
    if not budget["rounds"]:
        return "none"
    done = f"{budget['rounds_done']} of " if budget["rounds_done"] not in {None, budget["rounds"]} else ""
    return f"{budget['unit']} {budget['amount']:g} per {budget['per']}, {done}{budget['rounds']} rounds"


def protocol_text(protocol: Protocol | None, in_full: bool = False) -> str:
    """A protocol in a line; ``in_full`` names its classes and subsets."""
    if protocol is None:
        return "nothing was evaluated, so mIoU is unknown"
    classes, data, size = protocol["classes"], protocol["data"], protocol["input_size"]
    means = [f"mean of {name}: {', '.join(members)}" for name, members in protocol["subsets"].items() if in_full]
    parts = [
        f"{len(classes)} classes" + (f" ({', '.join(classes)})" if in_full else ""),
        *means,
        f"{protocol['images']} images, " + (f"data {data[:8]}" if data else "data unknown, so perhaps not the same"),
        f"input {size[0]}x{size[1]}" if size else "input as stored",
        protocol["inference"]["title"],
        protocol["precision"],
    ]
    return "; ".join(parts)


def _protocols_of(results: Sequence[StoredResult]) -> Mapping[str, tuple[str, Protocol | None]]:
    """The protocols of some results by :func:`_key`, each with a short name, in order of appearance."""
    found = {_key(each.result): each.result.protocol for each in results}
    return {key: (f"P{number}", protocol) for number, (key, protocol) in enumerate(found.items(), start=1)}


def _key(result: Result) -> str:
    return json.dumps(result.protocol, sort_keys=True)


def _table(results: Sequence[Result], subsets: Sequence[str], title: str) -> DataTable:
    columns = [Column("run"), Column("strategy"), Column("budget"), Column("% labelled", 2), Column("seed")]
    columns += [Column(name) for name in ("mIoU %", *(f"of {subset} %" for subset in subsets))]
    rows: list[list[Cell]] = []
    for each in results:
        figures = map(percent, (each.miou, *(each.subsets[subset] for subset in subsets)))
        budget = budget_text(each.budget)
        rows.append([each.name, each.strategy, budget, percent(each.budget["share"]), each.seed, *figures])
    return DataTable("results", title, "", columns, rows)


def _print_legend(protocols: Sequence[tuple[str, Protocol | None]], console: Console) -> None:
    if len(protocols) == 1:
        console.print(Text(f"protocol: {protocol_text(protocols[0][1])}"))
        return
    contents = [dict(protocol) for _, protocol in protocols if protocol]
    parts = [part for part in contents[0] if len({json.dumps(each[part]) for each in contents}) > 1]
    if parts:
        differing = ", ".join(part.replace("_", " ") for part in parts)
        console.print(
            Text(f"figures of different tables cannot be compared, as their protocols differ in: {differing}")
        )
    for name, protocol in protocols:
        console.print(Text(f"{name}: {protocol_text(protocol, bool({'classes', 'subsets'} & set(parts)))}"))


def _csv_row(stored: StoredResult, protocol: str) -> dict[str, Any]:
    path, result = stored
    parts = _csv_parts(result.protocol) if result.protocol else {}
    return {
        "file": str(path),
        "name": result.name,
        "strategy": result.strategy,
        **result.budget,
        "seed": result.seed,
        "protocol": protocol,
        **parts,
        "miou": result.miou,
        **{f"miou_{name}": value for name, value in result.subsets.items()},
        "pixel_accuracy": result.pixel_accuracy,
        "class_accuracy": result.class_accuracy,
        **{f"iou/{name}": value for name, value in result.iou.items()},
        "config": result.config,
        **result.code,
    }


def _csv_parts(protocol: Protocol) -> dict[str, Any]:
    size = protocol["input_size"]
    return {
        "classes": len(protocol["classes"]),
        "images": protocol["images"],
        "data": protocol["data"],
        "input_size": f"{size[0]}x{size[1]}" if size else "",
        "inference": protocol["inference"]["title"],
        "precision": protocol["precision"],
    }
