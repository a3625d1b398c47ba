"""The plain files of a run's folder: the config it runs with, and after every stage the table and its curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from ripu_lightning.report.curve import save_curve
from ripu_lightning.training.history import write_history
from ripu_lightning.training.loop import ActiveLearningLoop


class RunFiles(Callback):
    """Writes ``config.yaml`` when training starts, and ``rounds.csv`` and ``curve.png`` after every stage.

    Place it after the ActiveLearningLoop, whose records it writes. Only rank zero writes.

    Args:
        folder: the run's folder; made if missing.
        loop: the loop of the run.
        config: plain containers.
    """

    def __init__(self, folder: Path, loop: ActiveLearningLoop, config: Mapping[str, Any]) -> None:
        self.folder, self.loop, self.config = folder, loop, dict(config)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Everything was checked by now: this config is the one that runs."""
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(self.config, sort_keys=False)
            (self.folder / "config.yaml").write_text(text, encoding="utf-8")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Table and curve so far."""
        if trainer.is_global_zero:
            write_history(self.folder / "rounds.csv", self.loop.history)
            save_curve(self.loop.history, self.folder / "curve.png")
