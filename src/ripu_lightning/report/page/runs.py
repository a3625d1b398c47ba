"""Run folders as they are read for a report: whatever is missing or damaged is said, and the rest is used."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.entries import Entry
from ripu_lightning.report.ledger import NAME as LEDGER
from ripu_lightning.report.ledger import Ledger, read_ledger
from ripu_lightning.report.result import Result
from ripu_lightning.untrusted import read_bounded, read_config

LARGEST_TABLE = 2**24
"""Bytes of a ``rounds.csv``; enough for 65,535 rounds of many classes."""

Part = TypeVar("Part")


@dataclass(frozen=True)
class Stage:
    """One row of ``rounds.csv``; see :class:`~ripu_lightning.training.history.RoundRecord`.

    Attributes:
        round: rounds trained on.
        share: of the pool's pixels bought by then, 0..1.
        miou: 0..1; NaN where nothing was counted.
        iou: by class; NaN for a class that does not occur.
    """

    round: int
    share: float
    miou: float
    iou: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A result and what lies beside it.

    Attributes:
        folder: of the run.
        result: its ``result.json``.
        stages: its ``rounds.csv``; empty where there is none.
        ledger: its ``ledger.json``.
        config: its ``config.yaml``; empty where there is none.
        labels: its label store, for reading.
        lacks: what could not be read, a line each.
    """

    folder: Path
    result: Result
    stages: Sequence[Stage]
    ledger: Ledger | None
    config: Mapping[str, Any]
    labels: LabelStore | None
    lacks: Sequence[str]

    @property
    def kind(self) -> str:
        """``all`` labels, ``none``, ``bought``; else why it is left out: ``unfinished``, ``unknown``, ``no mIoU``."""
        budget = self.result.budget
        if budget["rounds"] and budget["rounds_done"] != budget["rounds"]:
            return "unfinished"
        if self.result.miou is None:
            return "no mIoU"
        if budget["unit"] == "all":
            return "all"
        if budget["rounds"] is None or budget["share"] is None:
            return "unknown"
        return "bought" if budget["rounds"] else "none"


def read_run(entry: Entry) -> Run:
    """What lies beside a result file; this never fails."""
    folder, lacks = entry.path.parent, list[str]()

    def part(name: str, read: Callable[[Path], Part], otherwise: Part) -> Part:
        path = folder / name
        if not path.exists():
            lacks.append(f"{path}: not there")
            return otherwise
        try:
            return read(path)
        except UserError as error:
            lacks.append(str(error))
            return otherwise

    def stages(path: Path) -> Sequence[Stage]:
        return read_stages(path, list(entry.result.iou))

    def ledger(path: Path) -> Ledger | None:
        found = read_ledger(path)
        if found.classes != list(entry.result.iou):
            raise UserError(f"{path}: has other classes than the result beside it")
        return found

    return Run(
        folder,
        entry.result,
        part("rounds.csv", stages, []),
        part(LEDGER, ledger, None) if entry.result.budget["rounds"] or entry.result.budget["unit"] == "all" else None,
        part("config.yaml", read_config, {}),
        part("labels", LabelStore.open, None),
        lacks,
    )


def read_stages(path: Path, classes: Sequence[str]) -> list[Stage]:
    """The rows of a ``rounds.csv``.

    Raises:
        UserError: it can not be read, or is none of these classes.
    """
    try:
        rows = list(csv.DictReader(StringIO(read_bounded(path, LARGEST_TABLE).decode(), newline=""), strict=True))
        stages = [_stage(row, classes) for row in rows]
        if [stage.round for stage in stages] != list(range(len(stages))):
            raise ValueError("rounds that do not follow each other")
        if any(later.share < earlier.share for earlier, later in pairwise(stages)):
            raise ValueError("labels that were given back")
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not the table of a run's rounds; have ripu-train write it anew") from error
    return stages


def _stage(row: Mapping[str, str], classes: Sequence[str]) -> Stage:
    share, *figures = (float(row[name]) for name in ("share", "miou", *(f"iou/{name}" for name in classes)))
    if not 0 <= share <= 1 or not all(math.isnan(value) or 0 <= value <= 1 for value in figures):
        raise ValueError("no share")
    return Stage(int(row["round"]), share, figures[0], dict(zip(classes, figures[1:], strict=True)))
