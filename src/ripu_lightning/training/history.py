"""What a run records after every stage: the labels so far, and what the network reached with them."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripu_lightning.evaluation.metric_names import metric_names
from ripu_lightning.files import write_bytes

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

    from ripu_lightning.labels import Round

IOU_PREFIX = "val/iou/"


@dataclass(frozen=True)
class RoundRecord:
    """One point of the curve of mIoU over budget.

    Attributes:
        round: rounds trained on; 0 is the source-only start.
        step: optimiser steps so far.
        queries: so far, over all images.
        pixels: queried so far, void ones included: they cost budget too.
        void: queried pixels without a class.
        share: ``pixels`` as a share of all target training pixels, 0..1.
        miou: mean IoU on the evaluation split, 0..1.
        iou: IoU by class; NaN for a class that does not occur.
    """

    round: int
    step: int
    queries: int
    pixels: int
    void: int
    share: float
    miou: float
    iou: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        stage: int,
        step: int,
        rounds: "Sequence[Round]",
        total_pixels: int,
        metrics: Mapping[str, float],
        classes: Sequence[str] = (),
    ) -> "RoundRecord":
        """From the rounds before the stage and the trainer's metrics after it; ``classes`` are their full names."""
        names = {short: name for name, short in metric_names(classes).items()}
        logged = {key.removeprefix(IOU_PREFIX): value for key, value in metrics.items() if key.startswith(IOU_PREFIX)}
        pixels = sum(entry.pixels for entry in rounds)
        return cls(
            round=stage,
            step=step,
            queries=sum(entry.queries for entry in rounds),
            pixels=pixels,
            void=sum(entry.void for entry in rounds),
            share=pixels / total_pixels,
            miou=metrics.get("val/miou", float("nan")),
            iou={names.get(key, key): value for key, value in logged.items()},
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for checkpoints."""
        return asdict(self)


def summary(history: Sequence[RoundRecord]) -> dict[str, float]:
    """How good a run is, in a few numbers, which a sweep can optimise.

    Args:
        history: the records of a run, in order; at least one.

    Returns:
        ``miou`` of the last record, ``best_miou`` of all, ``area_under_curve``: the mean of mIoU over the labelled
        share, by the trapezoidal rule (of a single share that at its last record); ``pixels`` and ``share`` that are
        labelled. NaN where nothing was evaluated.
    """
    last, points = history[-1], [(record.share, record.miou) for record in history if not math.isnan(record.miou)]
    best = max((miou for _, miou in points), default=math.nan)
    area = sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairwise(points))
    width = points[-1][0] - points[0][0] if points else 0
    mean = area / width if width else last.miou
    return {
        "miou": last.miou,
        "best_miou": best,
        "area_under_curve": mean,
        "pixels": float(last.pixels),
        "share": last.share,
    }


def log_round(loggers: "Sequence[Logger]", history: Sequence[RoundRecord]) -> None:
    """Log the last record as ``active/*`` over ``active/round``, its mIoU over the pixels too, and the summary."""
    from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger  # only here: records are read without them

    from ripu_lightning.training.loggers import BY_PIXELS, define_axes

    record = history[-1]
    values = {name: float(getattr(record, name)) for name in ("round", "queries", "pixels", "void", "share", "miou")}
    metrics = {f"active/{name}": value for name, value in values.items()}
    metrics |= {f"active/iou/{short}": record.iou[name] for name, short in metric_names(list(record.iou)).items()}
    metrics |= summary(history)
    by_pixels = {BY_PIXELS: record.miou}
    define_axes(loggers, [*metrics, *by_pixels])
    for logger in loggers:
        own_axis = isinstance(logger, (TensorBoardLogger, MLFlowLogger))  # one axis a metric, of whole numbers
        logger.log_metrics(metrics if own_axis else metrics | by_pixels, step=record.step)
        if own_axis:
            logger.log_metrics(by_pixels, step=record.pixels)


def write_history(path: Path, history: Sequence[RoundRecord]) -> None:
    """Write the records as CSV, one row a round, one ``iou/NAME`` column a class; replaces the file atomically.

    A figure that is not known is empty.

    Raises:
        UserError: it cannot be written.
    """
    classes = list(history[-1].iou) if history else []
    columns = ["round", "step", "queries", "pixels", "void", "share", "miou"]
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*columns, *(f"iou/{name}" for name in classes)])
    for record in history:
        iou = [record.iou.get(name, math.nan) for name in classes]  # a resumed run may lack a stage's validation
        values = [*(getattr(record, name) for name in columns), *iou]
        writer.writerow(["" if math.isnan(value) else value for value in values])
    write_bytes(path, text.getvalue().encode(), "the labels in the label store are safe")


def read_history(path: Path) -> list[RoundRecord]:
    """The records of a table of :func:`write_history`. Raises KeyError or ValueError for another file."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    whole, prefix = ("round", "step", "queries", "pixels", "void"), "iou/"
    return [
        RoundRecord(
            **{name: int(row[name]) for name in whole},
            share=float(row["share"]),
            miou=float(row["miou"] or "nan"),
            iou={key.removeprefix(prefix): float(row[key] or "nan") for key in row if key.startswith(prefix)},
        )
        for row in rows
    ]
