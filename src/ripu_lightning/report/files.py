"""The plain files of a run's folder: the config it runs with, and after every stage table, curve, ledger and result."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.evaluation import protocol_of
from ripu_lightning.files import replacing
from ripu_lightning.report.counting import make_ledger
from ripu_lightning.report.curve import save_curve
from ripu_lightning.report.ledger import RoundCost
from ripu_lightning.report.result import code_version, make_result
from ripu_lightning.training.history import write_history
from ripu_lightning.training.loop import ActiveLearningLoop
from ripu_lightning.training.module import SegmentationModule

BOUGHT = {"pixels": "pixels", "share": "share", "rounds_done": "round"}
"""Entry of the result's budget -> attribute of the last record."""


class RunFiles(Callback):
    """Writes ``config.yaml`` when training starts; the rest after every stage.

    That is ``rounds.csv``, ``curve.png``, ``result.json`` and ``ledger.json``, the last of what the label store holds.

    Place it after the ActiveLearningLoop, whose records it writes. Only rank zero writes. A checkpoint holds what was
    bought, for the result of a later evaluation.

    Args:
        folder: the run's folder; made if missing.
        loop: the loop of the run.
        config: plain containers.
    """

    def __init__(self, folder: Path, loop: ActiveLearningLoop, config: Mapping[str, Any]) -> None:
        self.folder, self.loop, self.config = folder, loop, dict(config)
        self._costs: dict[str, RoundCost] = {}  # rounds are immutable: each is counted once

    @property
    def _all_labels(self) -> bool:
        return bool(self.config["data"]["target_labels"] == "all")

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As :meth:`on_train_start`: a round that is asked before the first step may end the run here."""
        self.on_train_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Everything was checked by now: this config is the one that runs."""
        if trainer.is_global_zero:
            code_version()  # as it is now: whoever works on the code meanwhile does not change what runs
            self.write_config()

    def write_config(self) -> None:
        """Write ``config.yaml``; on rank zero alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(self.config, sort_keys=False)
        with replacing(self.folder / "config.yaml", "the labels that were bought are safe") as file:
            file.write(text.encode())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Table, curve, ledger and result so far."""
        if trainer.is_global_zero:
            write_history(self.folder / "rounds.csv", self.loop.history)
            save_curve(self.loop.history, self.folder / "curve.png")
            self._write_result(trainer, pl_module)
            self._write_ledger(trainer)

    def state_dict(self) -> dict[str, Any]:
        """``strategy`` and ``budget`` of the result file, see :class:`~ripu_lightning.report.result.Result`."""
        budget, last = self.loop.budget, self.loop.history[-1:]
        bought = {name: getattr(last[0], attribute) if last else None for name, attribute in BOUGHT.items()}
        amount = getattr(budget, budget.unit) if budget.unit else None
        whole = {"unit": budget.unit, "amount": amount, "per": budget.per, "rounds": budget.rounds, **bought}
        if self._all_labels:
            whole |= {"unit": "all", "pixels": None, "share": 1.0}
        return {"strategy": self.loop.strategy.name if budget.rounds else None, "budget": whole}

    def _write_ledger(self, trainer: Trainer) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, ActiveDataModule) and (self.loop.budget.rounds or self._all_labels):
            ledger = make_ledger(datamodule, self.loop.store, self.loop.strategy.geometry.name, self._costs)
            self._costs = {cost.sha256: cost for cost in ledger.rounds}
            ledger.write(self.folder)

    def _write_result(self, trainer: Trainer, module: LightningModule) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(module, SegmentationModule) and isinstance(datamodule, ActiveDataModule):
            write_result(self.folder, trainer, module, datamodule, "val", self.config, self.state_dict())


def write_result(
    folder: Path,
    trainer: Trainer,
    module: SegmentationModule,
    datamodule: ActiveDataModule,
    stage: Literal["val", "test"],
    config: Mapping[str, Any],
    purchase: Mapping[str, Any],
) -> dict[str, float]:
    """Write ``result.json`` for the last validation or test of a trainer, where anything was counted.

    Args:
        folder: made if missing.
        trainer: has just evaluated.
        module: what it evaluated.
        datamodule: on which data.
        stage: which of the two.
        config: of the run that trained the network, as plain containers.
        purchase: see :func:`~ripu_lightning.report.result.make_result`.

    Returns:
        The :func:`~ripu_lightning.evaluation.figures`; empty where nothing was counted.
    """
    logged = trainer.callback_metrics.items()
    found = {name.removeprefix(f"{stage}/"): float(value) for name, value in logged if name.startswith(f"{stage}/")}
    dataset = datamodule.target_eval
    if found and dataset is not None:
        content, size = datamodule.cache.content(dataset), datamodule.target_size
        protocol = protocol_of(dataset, content, module.inference, size, trainer.precision)
        make_result(config, purchase, protocol, found).write(folder)
    return found
