"""Classes, subsets and images of any name in real loggers, without a network: every figure arrives by itself."""

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_run
from pytorch_lightning.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

import tiny
from ripu_lightning.acquisition import Budget, get_strategy
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.report.page.run_folder import read_run
from ripu_lightning.report.results_by_protocol import read_results, write_results
from ripu_lightning.report.round_logs import RoundLogs
from ripu_lightning.report.round_pictures import RoundPictures
from ripu_lightning.report.run_files import RunFiles
from ripu_lightning.training import ActiveLearningLoop, Schedule
from ripu_lightning.untrusted import parse_json
from wandb_records import rows

NAMES = ("a b", "a/b", '100 %, "Straße" 道')
SHOWN = ("a_b", "a_b_1", "100_Stra_e")
SUBSETS = {"all / two": NAMES[:2], "all - two": NAMES[1:]}
MEANS = ("all_two", "all_-_two")
CLASSES = replace(tiny.CLASSES, names=NAMES, subsets=SUBSETS)


class Blocks(tiny_run.Blocks):
    def __init__(self, name: str, length: int) -> None:
        super().__init__(name, length)
        self.classes = CLASSES
        self.ids = [f"{name} %/{index}" for index in range(length)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One round in all loggers at once."""
    folder = tmp_path_factory.mktemp("names")
    data = ActiveDataModule(Blocks("source", 4), Blocks("target", 5), Blocks("eval", 2))
    schedule = Schedule(steps=4, first_round=2, interval=2, rounds=1)
    budget = Budget(ratio=0.1, rounds=1)
    loop = ActiveLearningLoop(get_strategy("ripu"), budget, GroundTruth(data.target), schedule, folder / "labels")
    files = RunFiles(folder, loop, tiny_run.CONFIG)
    callbacks = [files, RoundLogs(loop, folder / "none.ckpt", {}), RoundPictures(folder / "pictures", count=2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        mlflow = MLFlowLogger("names", tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
                              artifact_location=(folder / "mlflow").as_uri())  # fmt: skip
        loggers = [CSVLogger(folder, "csv", ""), TensorBoardLogger(folder, "tensorboard", ""), mlflow,
                   WandbLogger(project="names", save_dir=folder, offline=True)]  # fmt: skip
        trainer = tiny.trainer(folder, loop, *callbacks, logger=loggers, log_every_n_steps=1)
        trainer.fit(tiny.module(CLASSES), datamodule=data)
        import wandb

        wandb.finish()
    last = loop.history[-1]
    expected = {f"val/iou/{short}": last.iou[name] for name, short in zip(NAMES, SHOWN, strict=True)}
    expected |= {f"active/iou/{short}": last.iou[name] for name, short in zip(NAMES, SHOWN, strict=True)}
    assert len({*last.iou.values()}) == 3  # figures that can be told from each other
    result = json.loads((folder / "result.json").read_text())
    expected |= {f"val/miou_{short}": result["subsets"][name] for name, short in zip(SUBSETS, MEANS, strict=True)}
    return SimpleNamespace(folder=folder, loop=loop, mlflow=mlflow, expected=expected, result=result)


def test_every_class_has_figures_of_its_own_in_csv(run: SimpleNamespace) -> None:
    with open(run.folder / "csv/metrics.csv", newline="") as file:
        table = list(csv.DictReader(file, strict=True))
    for name, value in run.expected.items():
        assert float([row[name] for row in table if row[name]][-1]) == pytest.approx(value), name


def test_every_class_has_figures_of_its_own_in_tensorboard(run: SimpleNamespace) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    for name, value in run.expected.items():
        assert events.Scalars(name)[-1].value == pytest.approx(value), name
    pictures = {tag for tag in events.Tags()["images"] if tag.startswith("pictures/")}
    assert pictures == {"pictures/target___1", "pictures/target___3"}


def test_every_class_has_figures_of_its_own_in_mlflow(run: SimpleNamespace) -> None:
    found = run.mlflow.experiment.get_run(run.mlflow.run_id).data.metrics
    for name, value in run.expected.items():
        assert found[name] == pytest.approx(value), name


def test_every_class_has_figures_of_its_own_in_wandb(run: SimpleNamespace) -> None:
    found = rows(run.folder)
    for name, value in run.expected.items():
        assert [row[name] for row in found if name in row][-1] == pytest.approx(value), name
    (path, *_) = sorted(run.folder.rglob("tables/iou_*.table.json"))
    assert json.loads(path.read_text())["columns"] == ["round", "pixels", "miou", *(f"iou/{name}" for name in NAMES)]


def test_files_of_the_run_hold_the_names_in_full(run: SimpleNamespace) -> None:
    """As an independent, strict reader finds them."""
    last = run.loop.history[-1]
    assert list(run.result["iou"]) == list(NAMES)
    assert run.result["iou"] == last.iou
    assert run.result["protocol"]["subsets"] == {name: list(members) for name, members in SUBSETS.items()}
    with open(run.folder / "rounds.csv", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file, strict=True))
    assert [float(table[-1][f"iou/{name}"]) for name in NAMES] == [last.iou[name] for name in NAMES]
    stored = read_results([run.folder])
    (read,) = map(read_run, stored)
    assert read.curve[-1].iou == last.iou
    assert read.ledger is not None
    assert read.ledger.classes == list(NAMES)
    write_results(stored, run.folder / "results.csv")
    with open(run.folder / "results.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file, strict=True)
    assert {name: float(row[f"iou/{name}"]) for name in NAMES} == last.iou
    for path in run.folder.glob("*.json"):
        parse_json(path.read_bytes())  # refuses NaN


def test_a_figure_that_is_not_known_is_empty(tmp_path: Path) -> None:
    from ripu_lightning.training.history import RoundRecord, read_history, write_history

    records = [RoundRecord(stage, stage, 0, 0, 0, 0.0, math.nan, {"a,b": math.nan, "c": 0.5}) for stage in range(2)]
    write_history(tmp_path / "rounds.csv", records)
    table = list(csv.DictReader(io.StringIO((tmp_path / "rounds.csv").read_text()), strict=True))
    assert [(row["miou"], row["iou/a,b"], row["iou/c"]) for row in table] == [("", "", "0.5")] * 2
    assert repr(read_history(tmp_path / "rounds.csv")) == repr(records)  # NaN equals nothing
