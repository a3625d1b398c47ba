"""What a run records after every stage: labels bought so far and what the network reached with them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from ripu_lightning.labels import Round
from ripu_lightning.labels.files import replacing
from ripu_lightning.training.loggers import define_round_axis

IOU_PREFIX = "val/iou/"


@dataclass(frozen=True)
class RoundRecord:
    """One point of the curve of mIoU over budget.

    Attributes:
        round: rounds trained on; 0 is the source-only start.
        step: optimiser steps so far.
        queries: picks bought so far, over all images.
        pixels: pixels asked so far, void ones included: they cost budget too.
        void: pixels asked for which the annotator could not say.
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
        cls, stage: int, step: int, bought: Sequence[Round], total_pixels: int, metrics: Mapping[str, float]
    ) -> "RoundRecord":
        """From the rounds bought before the stage and the trainer's metrics after it."""
        pixels = sum(entry.pixels for entry in bought)
        return cls(
            round=stage,
            step=step,
            queries=sum(entry.queries for entry in bought),
            pixels=pixels,
            void=sum(entry.void for entry in bought),
            share=pixels / total_pixels,
            miou=metrics.get("val/miou", float("nan")),
            iou={key.removeprefix(IOU_PREFIX): value for key, value in metrics.items() if key.startswith(IOU_PREFIX)},
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for checkpoints."""
        return asdict(self)


def log_round(loggers: Sequence[Logger], record: RoundRecord) -> None:
    """Log a record as ``active/*``; ``active/round`` is the axis of the others."""
    values = {name: float(getattr(record, name)) for name in ("round", "queries", "pixels", "void", "share", "miou")}
    metrics = {f"active/{name}": value for name, value in values.items()}
    metrics |= {f"active/iou/{name}": value for name, value in record.iou.items()}
    define_round_axis(loggers, metrics)
    for logger in loggers:
        logger.log_metrics(metrics, step=record.step)


def write_history(path: Path, history: Sequence[RoundRecord]) -> None:
    """Write the records as CSV, one row a round, one ``iou/NAME`` column a class; replaces the file atomically.

    Raises:
        UserError: it can not be written.
    """
    classes = list(history[0].iou) if history else []
    columns = ["round", "step", "queries", "pixels", "void", "share", "miou"]
    text = StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*columns, *(f"iou/{name}" for name in classes)])
    for record in history:
        writer.writerow([*(getattr(record, name) for name in columns), *(record.iou[name] for name in classes)])
    with replacing(path, "the labels that were bought are safe") as file:
        file.write(text.getvalue().encode())
