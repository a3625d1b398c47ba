"""Run folders as a report reads them: whatever is missing or damaged is reported, and the rest is used."""

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
from ripu_lightning.report.data_record import NAME as DATA
from ripu_lightning.report.data_record import Record, read_data_record
from ripu_lightning.report.json_records import LARGEST_FILE
from ripu_lightning.report.ledger import NAME as LEDGER
from ripu_lightning.report.ledger import Ledger, read_ledger
from ripu_lightning.report.result import Result
from ripu_lightning.report.results_by_protocol import StoredResult
from ripu_lightning.untrusted import read_bounded, read_config

Part = TypeVar("Part")


@dataclass(frozen=True)
class CurvePoint:
    """One row of ``rounds.csv``; see :class:`~ripu_lightning.training.history.RoundRecord`."""

    round: int
    share: float
    miou: float
    iou: dict[str, float]


@dataclass(frozen=True)
class Run:
    """A result and the files of its folder.

    Attributes:
        folder: of the run.
        result: its ``result.json``.
        curve: its ``rounds.csv``; empty where there is none.
        ledger: its ``ledger.json``.
        data: its ``data.json``; empty where there is none.
        config: its ``config.yaml``; empty where there is none.
        labels: its label store, for reading.
        problems: what could not be read, and how the labels depart from the budget, a line each.
    """

    folder: Path
    result: Result
    curve: Sequence[CurvePoint]
    ledger: Ledger | None
    data: Record
    config: Mapping[str, Any]
    labels: LabelStore | None
    problems: Sequence[str]

    @property
    def kind(self) -> str:
        """``all`` labels, ``none``, ``queried``; else why it is left out: ``unfinished``, ``unknown``, ``no mIoU``."""
        budget = self.result.budget
        if budget["rounds"] and budget["rounds_done"] != budget["rounds"]:
            return "unfinished"
        if self.result.miou is None:
            return "no mIoU"
        if budget["unit"] == "all":
            return "all"
        if budget["rounds"] is None or budget["share"] is None:
            return "unknown"
        return "queried" if budget["rounds"] else "none"


def read_run(stored: StoredResult) -> Run:
    """The run folder of a result file; this never fails."""
    folder, result = stored.path.parent, stored.result
    problems: list[str] = []

    def part(name: str, read: Callable[[Path], Part], otherwise: Part) -> Part:
        path = folder / name
        if not path.exists():
            problems.append(f"{path}: missing")
            return otherwise
        try:
            return read(path)
        except UserError as error:
            problems.append(str(error))
            return otherwise

    def ledger(path: Path) -> Ledger | None:
        found = read_ledger(path)
        if result.protocol and found.classes != result.protocol["classes"]:
            raise UserError(f"{path}: has other classes than {stored.path}")
        return found

    def curve(path: Path) -> list[CurvePoint]:
        found = read_curve(path, list(result.iou))
        if found and result.miou is not None and not math.isclose(found[-1].miou, result.miou, abs_tol=1e-6):
            raise UserError(f"{path}: ends with another mIoU than {stored.path}: one of the two is not of this run")
        return found

    return Run(
        folder,
        result,
        part("rounds.csv", curve, []),
        part(LEDGER, ledger, None) if result.budget["rounds"] or result.budget["unit"] == "all" else None,
        part(DATA, read_data_record, {}),
        part("config.yaml", read_config, {}),
        part("labels", LabelStore.open, None),
        [*problems, *result.warnings],
    )


def read_curve(path: Path, classes: Sequence[str]) -> list[CurvePoint]:
    """The rows of a ``rounds.csv``. Raises UserError where it cannot be read, or is not one on these classes."""
    try:
        rows = csv.DictReader(StringIO(read_bounded(path, LARGEST_FILE).decode(), newline=""), strict=True)
        points = [_point(row, classes) for row in rows]
        if [point.round for point in points] != list(range(len(points))):
            raise ValueError("rounds that do not follow each other")
        if any(later.share < earlier.share for earlier, later in pairwise(points)):
            raise ValueError("labels that became fewer")
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path}: not the table of a run's rounds; write it again with ripu-train") from error
    return points


def _point(row: Mapping[str, str], classes: Sequence[str]) -> CurvePoint:
    share, *figures = (
        math.nan if row[key] == "" else float(row[key])
        for key in ("share", "miou", *(f"iou/{name}" for name in classes))
    )
    if not 0 <= share <= 1 or not all(math.isnan(value) or 0 <= value <= 1 for value in figures):
        raise ValueError("no share")
    return CurvePoint(int(row["round"]), share, figures[0], dict(zip(classes, figures[1:], strict=True)))
