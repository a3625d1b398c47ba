"""The plain files of a run's folder: the config it runs with, and after every stage table, curve, ledger and result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.evaluation import protocol_of
from ripu_lightning.files import write_bytes
from ripu_lightning.report.chart_types import COLOURS, LineChart, Panel, Series, Style
from ripu_lightning.report.data_record import Record, write_data_record
from ripu_lightning.report.json_records import LABELS_SAFE
from ripu_lightning.report.ledger import RoundCost
from ripu_lightning.report.ledger_counting import make_ledger
from ripu_lightning.report.matplotlib_charts import chart_file
from ripu_lightning.report.result import code_version, make_result
from ripu_lightning.training.history import RoundRecord, write_history
from ripu_lightning.training.loop import ActiveLearningLoop
from ripu_lightning.training.module import SegmentationModule


class RunFiles(Callback):
    """Writes ``config.yaml`` and ``data.json`` when training starts, the other files of a run after every stage.

    Those are ``rounds.csv``, ``curve.png``, ``result.json`` and ``ledger.json``. Place it after the ActiveLearningLoop,
    whose records it writes. Only rank zero writes. A checkpoint holds what was labelled, for the result of a later
    evaluation.

    Args:
        folder: the run's folder; made if missing.
        loop: the loop of the run.
        config: plain containers.
        data: what ``data.json`` says.
    """

    def __init__(
        self, folder: Path, loop: ActiveLearningLoop, config: Mapping[str, Any], data: Record | None = None
    ) -> None:
        self.folder, self.loop, self.config, self.data = folder, loop, dict(config), data or {}
        self._costs: dict[str, RoundCost] = {}  # rounds are immutable: each is counted once

    @property
    def _all_labels(self) -> bool:
        return bool(self.config["data"]["target_labels"] == "all")

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As :meth:`on_train_start`: a round before the first step may end the run here."""
        self.on_train_start(trainer, pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Everything was checked by now: this config is the one that runs."""
        if trainer.is_global_zero:
            code_version()  # as it is now: whoever edits the code meanwhile does not change what runs
            self.write_config()

    def write_config(self) -> None:
        """Write ``config.yaml`` and ``data.json``; call it on rank zero only."""
        if self.data:
            write_data_record(self.data, self.folder)
        text = yaml.safe_dump(self.config, sort_keys=False)
        write_bytes(self.folder / "config.yaml", text.encode(), LABELS_SAFE)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write table, curve, result and ledger so far."""
        if not trainer.is_global_zero:
            return
        write_history(self.folder / "rounds.csv", self.loop.history)
        write_bytes(self.folder / "curve.png", chart_file(curve_chart(self.loop.history)), LABELS_SAFE)
        datamodule = getattr(trainer, "datamodule", None)
        if not isinstance(datamodule, ActiveDataModule):
            return
        if isinstance(pl_module, SegmentationModule):
            write_result(self.folder, trainer, pl_module, datamodule, self.config, self.state_dict())
        if self.loop.budget.rounds or self._all_labels:
            ledger = make_ledger(datamodule, self.loop.store, self.loop.strategy.region_type.name, self._costs)
            self._costs = {cost.sha256: cost for cost in ledger.rounds}
            ledger.write(self.folder)

    def state_dict(self) -> dict[str, Any]:
        """What the result file says of the labels, see :class:`~ripu_lightning.report.result.Labelling`."""
        budget, last = self.loop.budget, self.loop.history[-1] if self.loop.history else None
        spent = {
            "unit": budget.unit,
            "amount": getattr(budget, budget.unit) if budget.unit else None,
            "per": budget.per,
            "rounds": budget.rounds,
            "rounds_done": last and last.round,
            "pixels": last and last.pixels,
            "share": last and last.share,
        }
        if self._all_labels:
            spent |= {"unit": "all", "pixels": None, "share": 1.0}
        strategy = self.loop.strategy.name if budget.rounds else None
        return {"strategy": strategy, "budget": spent, "warnings": self.loop.warnings}


def write_result(
    folder: Path,
    trainer: Trainer,
    module: SegmentationModule,
    datamodule: ActiveDataModule,
    config: Mapping[str, Any],
    labelling: Mapping[str, Any],
) -> dict[str, float]:
    """Write ``result.json``, with the figures of what a module has just evaluated, if it counted anything.

    Args:
        folder: made if missing.
        trainer: its precision.
        module: whose figures.
        datamodule: of which data.
        config: of the run that trained the network, as plain containers.
        labelling: see :class:`~ripu_lightning.report.result.Labelling`.

    Returns:
        The figures by name; empty where nothing was counted.
    """
    found, dataset, protocol = module.last_figures, datamodule.target_eval, None
    if found and dataset is not None:
        content, size = datamodule.cache.content(dataset), datamodule.target_size
        protocol = protocol_of(dataset, module.class_map, content, module.inference, size, trainer.precision)
    make_result(config, labelling, protocol, found).write(folder)
    return found


def curve_chart(history: Sequence[RoundRecord]) -> LineChart:
    """mIoU (%) over the share of labelled target pixels (%); the first record is also a horizontal line."""
    shares, values = [100 * record.share for record in history], [100 * record.miou for record in history]
    rounds = [str(record.round) for record in history]
    series = Series("", Style(COLOURS[0]), shares, values, [None] * len(values), rounds)
    panel = Panel("", [series], [("source only", values[0])])
    return LineChart("curve", "", "", "labelled target pixels (%), points marked with the round", "mIoU (%)", [panel])
