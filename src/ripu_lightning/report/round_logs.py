"""What loggers are given after every stage beside numbers and pictured images: tables, the confusion, artifacts."""

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

from ripu_lightning.data.classes import ClassMap
from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.labels import LabelStore, Round
from ripu_lightning.report.confusion import draw_confusion
from ripu_lightning.report.drawing import map_panel
from ripu_lightning.report.result import code_version
from ripu_lightning.report.views import RoundView
from ripu_lightning.training.history import RoundRecord
from ripu_lightning.training.loggers import log_media, log_picture, wandb_runs
from ripu_lightning.training.loop import ActiveLearningLoop
from ripu_lightning.training.module import SegmentationModule

VOID = IGNORE - 1
PATIENCE = 60
"""Seconds to wait for W&B to have the labels of the round before."""


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
        self._labels: Any = None  # the artifact that this process logged last, and the round it ends with
        self._newest: str | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the config to loggers that write into the run's folder; a mistake found before leaves nothing there."""
        for logger in trainer.loggers:
            if stage == "fit" and isinstance(logger, (CSVLogger, TensorBoardLogger)):
                logger.log_hyperparams({**self.config, "code": code_version()})

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As :meth:`on_train_epoch_end`: a round may be bought before the first step."""
        self.on_train_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A stage is over and its round was bought."""
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
        """The checkpoint of the stage before lies there since its end."""
        self._log_checkpoint(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As :meth:`on_train_epoch_start`, for the last stage; also of a run that was ended right after it."""
        self._log_checkpoint(trainer)

    def _log_labels(self, run: Any, store: LabelStore) -> None:
        """A version of the store, made from the version before."""
        import wandb

        newest = store.rounds[-1]
        about = {"round": newest.number, "pixels": store.pixels, "sha256": newest.sha256, "before": newest.parent}
        artifact = wandb.Artifact(f"labels-{run.id}", type="labels", metadata=about)
        for path in sorted([store.folder / "manifest.json", *(store.folder / entry.file for entry in store.rounds)]):
            artifact.add_file(str(path), path.name)
        self._use(run, newest)
        self._labels = run.log_artifact(artifact, aliases=[f"round-{newest.number}"])

    def _use(self, run: Any, newest: Round) -> None:
        if newest.parent is None or run.offline:  # offline, W&B takes no inputs: the metadata tell what came before
            return
        try:
            name = f"labels-{run.id}:round-{newest.number - 1}"  # all that a run knows which has just gone on
            run.use_artifact(name if self._labels is None else self._labels.wait(timeout=PATIENCE))
        except Exception as error:  # whatever happens to W&B's server, the run goes on
            rank_zero_warn(f"wandb: the labels are logged without the version before ({str(error).splitlines()[0]})")

    def _log_checkpoint(self, trainer: Trainer) -> None:
        history = self.loop.history
        if not (history and trainer.is_global_zero and self.checkpoint.is_file()):
            return
        record = history[-1]
        if record.step != trainer.global_step or not record.miou >= max(each.miou for each in history):
            return  # it is one of a step inside a stage, or not the best
        for run in _recording(trainer.loggers):
            import wandb

            about = {"round": record.round, "miou": record.miou}
            artifact = wandb.Artifact(f"checkpoint-{run.id}", type="model", metadata=about)
            artifact.add_file(str(self.checkpoint), self.checkpoint.name)
            run.log_artifact(artifact, aliases=["best", f"round-{record.round}"])


def log_iou_table(loggers: Sequence[Logger], history: Sequence[RoundRecord]) -> None:
    """The IoU of every class in every round so far, as W&B's table ``tables/iou``."""
    if not wandb_runs(loggers):
        return
    import wandb

    classes, record = list(history[-1].iou), history[-1]
    rows = [
        [each.round, each.pixels, *map(_figure, [each.miou, *(each.iou[name] for name in classes)])] for each in history
    ]
    table = wandb.Table(columns=["round", "pixels", "miou", *classes], data=rows)
    log_media(loggers, "tables/iou", table, record.round, record.step)


def log_confusion(loggers: Sequence[Logger], counts: Any, classes: Sequence[str], record: RoundRecord) -> None:
    """The confusion matrix as the picture ``confusion/matrix``, and as W&B's table ``confusion/counts``.

    Args:
        loggers: of the trainer.
        counts: ``(C, C)`` counts of (truth, prediction).
        classes: their names.
        record: of the stage.
    """
    if all(isinstance(logger, CSVLogger) for logger in loggers):  # takes no pictures
        return
    picture = BytesIO()
    draw_confusion(counts, classes).savefig(picture, format="png")
    pixels = np.array(Image.open(picture).convert("RGB"))
    log_picture(loggers, "confusion/matrix", pixels, record.round, record.step)
    if wandb_runs(loggers):
        import wandb

        table = wandb.Table(columns=["true", *classes])
        for name, row in zip(classes, counts.tolist(), strict=True):
            table.add_data(name, *row)
        log_media(loggers, "confusion/counts", table, record.round, record.step)


def log_view(loggers: Sequence[Logger], view: RoundView, drawn: UInt8Array, classes: ClassMap, step: int) -> None:
    """One pictured image: its drawing as ``pictures/NAME`` and its score as ``scores/NAME``.

    W&B also gets the image under masks of truth, prediction and what was bought, as ``masks/NAME``.

    Args:
        loggers: of the trainer.
        view: the image after a stage.
        drawn: ``(h, w, 3)`` RGB.
        classes: names of the masks' values.
        step: the trainer's.
    """
    log_picture(loggers, f"pictures/{view.name}", drawn, view.stage, step)
    if "score" in view.maps:
        log_picture(loggers, f"scores/{view.name}", map_panel("score", view.maps["score"])[1], view.stage, step)
    if not wandb_runs(loggers):
        return
    import wandb

    names = dict(enumerate(classes.names))
    bought = np.where((view.asked > 0) & (view.labels == IGNORE), VOID, view.labels)
    masks = {"prediction": (view.prediction, names), "bought": (bought, {**names, VOID: "void", IGNORE: "not bought"})}
    if view.truth is not None:
        masks["truth"] = (view.truth, {**names, IGNORE: "ignored"})
    named = {kind: {"mask_data": mask, "class_labels": labels} for kind, (mask, labels) in masks.items()}
    log_media(loggers, f"masks/{view.name}", [wandb.Image(view.image, masks=named)], view.stage, step)


def _recording(loggers: Sequence[Logger]) -> list[Any]:
    return [run for run in wandb_runs(loggers) if not run.disabled]


def _figure(value: float) -> float | None:
    return None if math.isnan(value) else value
