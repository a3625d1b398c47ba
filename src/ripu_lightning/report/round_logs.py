"""What loggers get after every stage in addition to numbers: tables, the confusion matrix, pictures, artifacts."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.labels import LabelStore, Round
from ripu_lightning.report.chart_types import HeatMap
from ripu_lightning.report.image_panels import map_panel
from ripu_lightning.report.image_snapshot import ImageSnapshot
from ripu_lightning.report.matplotlib_charts import chart_file
from ripu_lightning.report.result import code_version
from ripu_lightning.training.history import RoundRecord
from ripu_lightning.training.loggers import log_media, log_picture, wandb_runs
from ripu_lightning.training.loop import ActiveLearningLoop
from ripu_lightning.training.module import SegmentationModule

VOID_IN_PICTURE = IGNORE - 1
"""Value of void pixels in pictures of masks, where 255 are the pixels that were not queried."""
PATIENCE = 60
"""Seconds to wait for W&B to have the labels of the previous round."""


class RoundLogs(Callback):
    """Logs the table of IoU, the confusion matrix, the labels and, where it is the best so far, the checkpoint.

    Tables and artifacts are W&B's. Place the callback after the ActiveLearningLoop. Only rank zero works, and without
    any collective.

    Args:
        loop: of the run.
        checkpoint: the file that is written after every stage.
        config: resolved, as plain containers.
    """

    def __init__(self, loop: ActiveLearningLoop, checkpoint: Path, config: Mapping[str, Any]) -> None:
        self.loop, self.checkpoint, self.config = loop, checkpoint, dict(config)
        self._labels: Any = None  # the artifact of labels that this process logged last
        self._newest: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the config to loggers that write into the run's folder; by now the config was checked."""
        for logger in trainer.loggers:
            if stage == "fit" and isinstance(logger, (CSVLogger, TensorBoardLogger)):
                logger.log_hyperparams({**self.config, "code": code_version()})

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As :meth:`on_train_epoch_end`: there may be a round before the first step."""
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the stage reached, and the labels of the round after it."""
        if not trainer.is_global_zero or not self.loop.history:
            return
        loggers, record = trainer.loggers, self.loop.history[-1]
        log_iou_table(loggers, self.loop.history)
        if isinstance(pl_module, SegmentationModule) and pl_module.last_confusion is not None:
            log_confusion(loggers, pl_module.last_confusion, pl_module.classes, record)
        newest = self.loop.store.rounds[-1:]
        if newest and newest[0].sha256 != self._newest:
            self._newest = newest[0].sha256
            for run in _recording(loggers):
                self._log_labels(run, self.loop.store)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the checkpoint that the previous stage has written at its end."""
        self._log_checkpoint(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As :meth:`on_train_epoch_start`, for the last stage; also of a run that was ended right after it."""
        self._log_checkpoint(trainer)

    def _log_labels(self, run: Any, store: LabelStore) -> None:
        """Log a version of the store that was made from the previous version."""
        newest = store.rounds[-1]
        about = {"round": newest.number, "pixels": store.pixels, "sha256": newest.sha256, "before": newest.parent}
        files = sorted([store.folder / "manifest.json", *(store.folder / entry.file for entry in store.rounds)])
        self._use(run, newest)
        self._labels = _log_artifact(run, "labels", "labels", about, files, [f"round-{newest.number}"])

    def _use(self, run: Any, newest: Round) -> None:
        if newest.parent is None or run.offline:  # offline, W&B takes no inputs: the metadata name the parent
            return
        try:
            name = f"labels-{run.id}:round-{newest.number - 1}"  # all that a run knows which was just resumed
            run.use_artifact(name if self._labels is None else self._labels.wait(timeout=PATIENCE))
        except Exception as error:  # whatever happens to W&B's server, the run continues
            line = str(error).splitlines()[0]
            rank_zero_warn(f"wandb: the labels are logged without a link to the previous version ({line})")

    def _log_checkpoint(self, trainer: Trainer) -> None:
        history = self.loop.history
        if not (history and trainer.is_global_zero and self.checkpoint.is_file()):
            return
        record = history[-1]
        if record.step != trainer.global_step or not record.miou >= max(each.miou for each in history):
            return  # it is one of a step inside a stage, or not the best
        for run in _recording(trainer.loggers):
            about = {"round": record.round, "miou": record.miou}
            _log_artifact(run, "checkpoint", "model", about, [self.checkpoint], ["best", f"round-{record.round}"])


def log_iou_table(loggers: Sequence[Logger], history: Sequence[RoundRecord]) -> None:
    """The IoU of every class in every round so far, as W&B's table ``tables/iou``."""
    if wandb_runs(loggers):
        import wandb

        classes, last = list(history[-1].iou), history[-1]
        columns: list[str | int] = [
            "round",
            "pixels",
            "miou",
            *(f"iou/{name}" for name in classes),
        ]  # a class may be named "round"
        values = [[each.miou, *(each.iou[name] for name in classes)] for each in history]
        rows = [
            [each.round, each.pixels, *(None if math.isnan(value) else value for value in row)]
            for each, row in zip(history, values, strict=True)
        ]
        table = wandb.Table(columns=columns, data=rows)
        log_media(loggers, "tables/iou", table, last.round, last.step)


def log_confusion(loggers: Sequence[Logger], counts: Any, classes: Sequence[str], record: RoundRecord) -> None:
    """The confusion matrix ``(C, C)`` of (truth, prediction) as a picture, and as W&B's table ``confusion/counts``."""
    if all(isinstance(logger, CSVLogger) for logger in loggers):  # takes no pictures
        return
    pixels = np.array(Image.open(BytesIO(chart_file(confusion_chart(counts, classes)))).convert("RGB"))
    log_picture(loggers, "confusion/matrix", pixels, record.round, record.step)
    if wandb_runs(loggers):
        import wandb

        rows = [[name, *row] for name, row in zip(classes, counts.tolist(), strict=True)]
        table = wandb.Table(columns=["true", *(f"predicted/{name}" for name in classes)], data=rows)
        log_media(loggers, "confusion/counts", table, record.round, record.step)


def confusion_chart(counts: Tensor, classes: Sequence[str]) -> HeatMap:
    """Of each true class's pixels, the share predicted as each class, from counts ``(C, C)`` of (truth, prediction)."""
    numbers = counts.double().numpy()
    total = numbers.sum(axis=1, keepdims=True)
    shares = np.divide(numbers, total, out=np.full_like(numbers, np.nan), where=total > 0)
    return HeatMap("confusion", "", "", classes, shares.tolist(), "predicted", "true")


def log_snapshot(
    loggers: Sequence[Logger], snapshot: ImageSnapshot, name: str, drawn: UInt8Array, classes: ClassMap, step: int
) -> None:
    """One pictured image: ``drawn``, ``(h, w, 3)`` RGB, as ``pictures/NAME``, and its score as ``scores/NAME``.

    W&B also gets the image under masks of truth, prediction and queried pixels, as ``masks/NAME``.
    """
    stage = snapshot.stage
    log_picture(loggers, f"pictures/{name}", drawn, stage, step)
    if "score" in snapshot.maps:
        log_picture(loggers, f"scores/{name}", map_panel("score", snapshot.maps["score"])[1], stage, step)
    if not wandb_runs(loggers):
        return
    import wandb

    names = dict(enumerate(classes.names))
    queried = np.where((snapshot.query_round > 0) & (snapshot.labels == IGNORE), VOID_IN_PICTURE, snapshot.labels)
    masks = {
        "prediction": (snapshot.prediction, names),
        "queried": (queried, {**names, VOID_IN_PICTURE: "void", IGNORE: "not queried"}),
    }
    if snapshot.truth is not None:
        masks["truth"] = (snapshot.truth, {**names, IGNORE: "ignored"})
    named = {kind: {"mask_data": mask, "class_labels": labels} for kind, (mask, labels) in masks.items()}
    log_media(loggers, f"masks/{name}", [wandb.Image(snapshot.image, masks=named)], stage, step)


def _log_artifact(
    run: Any, name: str, kind: str, about: Mapping[str, Any], files: Sequence[Path], aliases: Sequence[str]
) -> Any:
    import wandb

    artifact = wandb.Artifact(f"{name}-{run.id}", type=kind, metadata=dict(about))
    for path in files:
        artifact.add_file(str(path), path.name)
    return run.log_artifact(artifact, aliases=list(aliases))


def _recording(loggers: Sequence[Logger]) -> list[Any]:
    return [run for run in wandb_runs(loggers) if not run.disabled]
