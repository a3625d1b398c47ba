"""``ripu-train`` and ``ripu-evaluate`` as real processes on the embedded pair, and what they leave behind."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from in_process import call_inside
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import forked
from ripu_lightning.cli.compose import compose
from ripu_lightning.data import Streets, load_class_map
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.complete_runs import complete_history
from ripu_lightning.experiment.run import refuse_other_config
from ripu_lightning.labels import LabelStore

SCRIPTS = Path(sys.executable).parent
SMALL = [
    "debug=quick",
    "budget.rounds=2",
    "data.source.length=4",
    "data.target.length=5",
    "data.target_eval.length=3",
    "data.target.height=64",
    "data.target.width=96",
    "data.eval_batch_size=2",
    "network.width=8",
    "trainer.accelerator=cpu",
    "pictures=0",
]


def call(*arguments: str, cwd: Path, anew: bool = False, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own: forked, or with ``anew`` in an interpreter that has loaded nothing."""
    command = [str(SCRIPTS / arguments[0]), *arguments[1:]]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "WANDB_MODE": "offline", **environment}
    if not anew:
        return forked.run(command, cwd=cwd, env=settings)
    return subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=240, check=False)


def assert_one_line(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The user sees one line that starts with ``error:`` and nothing that looks like a traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One whole run with the three loggers but W&B."""
    folder = tmp_path_factory.mktemp("train")
    done = call("ripu-train", *SMALL, "output=run", "logger=tensorboard", "per_class=true", "pictures=1", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder / "stdout.txt").write_text(done.stdout)
    (folder / "stderr.txt").write_text(done.stderr)
    return folder / "run"


def test_run_folder_is_complete(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["budget"]["rounds"] == 2
    assert config["data"]["target"]["height"] == 64  # resolved
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert (run / "metrics" / "version_0" / "metrics.csv").is_file()
    assert list((run / "tensorboard").glob("events.*"))
    with Image.open(run / "curve.png") as curve:
        assert np.array(curve.convert("L")).std() > 5
    for stage in range(3):
        pictures = sorted((run / "pictures" / f"round_{stage}").glob("*.png"))
        assert len(pictures) == 1
        with Image.open(pictures[0]) as picture:
            assert np.array(picture.convert("RGB")).std() > 20


def test_rounds_table_and_csv_agree_with_the_store(run: Path) -> None:
    with (run / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    store = LabelStore.open(run / "labels")
    assert [int(row["round"]) for row in rows] == [0, 1, 2]
    assert [int(row["pixels"]) for row in rows] == [0, store.rounds[0].pixels, store.pixels]
    assert float(rows[-1]["share"]) == pytest.approx(store.pixels / (5 * 64 * 96))
    printed = (run.parent / "stdout.txt").read_text()
    assert "source only" in printed
    assert f"{100 * float(rows[-1]['miou']):.1f}" in printed
    assert all(name in printed for name in load_class_map("streets").names)


def test_store_holds_the_truth_of_what_was_asked(run: Path) -> None:
    store, target = LabelStore.open(run / "labels"), Streets("target", "train", 5, 64, 96)
    for index, image_id in enumerate(target.ids):
        queried = store.query_round(image_id) > 0
        assert queried.any()
        assert np.array_equal(store.mask(image_id), np.where(queried, target.label(index), 255))


def test_progress_bars_tell_of_training_and_of_the_pool(run: Path) -> None:
    printed = (run.parent / "stderr.txt").read_text() + (run.parent / "stdout.txt").read_text()
    assert "Epoch 2" in printed
    assert "round 2: ripu" in printed


def test_metrics_csv_holds_the_rounds(run: Path) -> None:
    with (run / "metrics" / "version_0" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["active/round"]]
    assert [float(row["active/round"]) for row in rows] == [0, 1, 2]
    assert float(rows[-1]["active/share"]) > float(rows[1]["active/share"]) > 0


def test_tensorboard_has_the_same_names(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()
    assert [image.step for image in events.Images("confusion/matrix")] == [2, 3, 7]
    names = {"pictures/target_train_0002", "scores/target_train_0002", "confusion/matrix"}
    assert names <= set(events.Tags()["images"])
    pixels = LabelStore.open(run / "labels").pixels
    assert [point.step for point in events.Scalars("active/by_pixels/miou")][::2] == [0, pixels]
    result = json.loads((run / "result.json").read_text())
    for name in ("miou", "active/miou", "val/miou"):
        assert events.Scalars(name)[-1].value == pytest.approx(result["miou"])
    assert yaml.safe_load((run / "tensorboard" / "hparams.yaml").read_text())["budget"]["rounds"] == 2


def test_evaluate_needs_the_checkpoint_alone_and_finds_what_training_found(run: Path, tmp_path: Path) -> None:
    done = call(
        "ripu-evaluate",
        f"checkpoint={run / 'checkpoints' / 'last.ckpt'}",
        "output=out",
        "trainer.accelerator=cpu",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result == json.loads((run / "result.json").read_text())
    with (run / "rounds.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert result["miou"] == float(last["miou"])
    assert (result["budget"]["pixels"], result["budget"]["share"]) == (int(last["pixels"]), float(last["share"]))
    assert (result["name"], result["strategy"], result["seed"]) == ("debug", "ripu", 0)
    assert result["protocol"]["classes"] == list(load_class_map("streets").names)
    assert result["protocol"]["data"] == Streets("target", "val", 3, 64, 96).fingerprint()
    assert f"{100 * result['miou']:.1f}" in done.stdout
    assert f"{100 * result['pixel_accuracy']:.1f} of the pixels" in done.stdout
    val = Streets("target", "val", 3, 64, 96)
    hit = union = 0
    for index, image_id in enumerate(val.ids):
        with Image.open(tmp_path / "out" / "predictions" / f"{image_id}.png") as picture:
            assert picture.mode == "P"
            predicted = np.array(picture)
        hit += ((predicted == 0) & (val.label(index) == 0)).sum()
        union += ((predicted == 0) | (val.label(index) == 0)).sum()
    assert result["iou"]["road"] == pytest.approx(hit / union, abs=1e-6)


def test_the_same_command_again_finds_everything_done(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in (run / "labels").glob("*.parquet")}
    rounds, result = (run / "rounds.csv").read_bytes(), (run / "result.json").read_bytes()
    done = call_inside("ripu-train", *SMALL, "output=run", "logger=tensorboard", cwd=run.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name: path.read_bytes() for path in (run / "labels").glob("*.parquet")} == before
    assert (run / "rounds.csv").read_bytes() == rounds
    assert (run / "result.json").read_bytes() == result


def test_a_complete_run_says_so_before_torch_is_loaded(run: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = call("ripu-train", *SMALL, "output=run", "per_class=true", cwd=run.parent, anew=True, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr[-3000:]
    *table, last = done.stdout.splitlines()
    assert last == f"complete: nothing is left to do in the run folder {run}"
    printed = (run.parent / "stdout.txt").read_text().splitlines()
    assert table == printed[-1 - len(table) : -1]


@pytest.mark.parametrize(
    "change",
    ["result.json", "rounds.csv", "config.yaml", "checkpoints/last.ckpt", "labels/manifest.json",
     "labels/round_001.parquet", "complete", "seed=1", "data.target.seed=3", "schedule.steps=8",
     "trainer.precision=bf16-mixed"],
)  # fmt: skip
def test_a_run_that_was_changed_gets_a_closer_look(run: Path, tmp_path: Path, change: str) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    history = complete_history(compose(SMALL), moved)
    assert history is not None
    saved = torch.load(moved / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["ActiveLearningLoop"]
    for record, known in zip(history, saved["history"], strict=True):
        assert record.iou == pytest.approx(known.pop("iou"), nan_ok=True)
        assert {**record.as_dict(), "iou": 0} == {**known, "iou": 0}
    if "=" in change:
        assert complete_history(compose([*SMALL, change]), moved) is None
        return
    (moved / change).write_bytes((moved / change).read_bytes() + b" ")
    assert (complete_history(compose(SMALL), moved) is None) == (change != "complete")
    (moved / change).unlink()
    assert complete_history(compose(SMALL), moved) is None


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("strategy=random", ["strategy.eps", "choose another output"]),
        ("data.target.seed=9", ["data.source.seed", "has 0, this command 9"]),
        ("strategy.radius=40", ["strategy.radius"]),
        ("trainer.gradient_clip_val=0.5", ["trainer.gradient_clip_val", "has None, this command 0.5"]),
    ],
)
def test_going_on_under_another_config_is_refused_and_changes_nothing(
    run: Path, override: str, words: list[str]
) -> None:
    before = contents(run)
    assert_one_line(call_inside("ripu-train", *SMALL, "output=run", override, cwd=run.parent), *words)
    assert contents(run) == before


def test_precision_may_change_until_a_run_has_ended_and_the_number_of_workers_always() -> None:
    old = {"trainer": {"precision": "32-true", "accelerator": "cpu"}, "data": {"num_workers": 0}}
    new = {"trainer": {"precision": "16-mixed", "accelerator": "gpu"}, "data": {"num_workers": 8}}
    refuse_other_config(old, new, Path("run"))
    with pytest.raises(UserError, match=r"^trainer\.precision: the run in run has '32-true', this command '16-mixed'"):
        refuse_other_config(old, new, Path("run"), ended=True)
    new["trainer"]["precision"] = "32-true"
    refuse_other_config(old, new, Path("run"), ended=True)


def test_folder_with_the_labels_of_other_data_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "labels", tmp_path / "other" / "labels")
    before = contents(tmp_path)
    done = call_inside("ripu-train", *SMALL, "output=other", "data.target.length=4", cwd=tmp_path)
    assert_one_line(done, str(tmp_path / "other" / "labels"))
    assert contents(tmp_path) == before


def test_checkpoint_of_another_class_count(run: Path, tmp_path: Path) -> None:
    for domain in ("images", "labels"):
        (tmp_path / "roads" / domain / "val").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "roads" / "images" / "val" / "a.png")
    Image.fromarray(picture[..., 0] % 10).save(tmp_path / "roads" / "labels" / "val" / "a.png")
    roads = "{_target_: ripu_lightning.data.FolderDataset, split: val, classes: roads, root: roads}"
    checkpoint = run / "checkpoints" / "last.ckpt"
    done = call_inside("ripu-evaluate", f"checkpoint={checkpoint}", f"+data.target_eval={roads}", cwd=tmp_path)
    assert_one_line(done, "13 classes", "10")


def test_wandb_offline_run_goes_through(tmp_path: Path) -> None:
    done = call("ripu-train", *SMALL, "output=run", "logger=wandb", "logger.wandb.offline=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    files = list((tmp_path / "run").rglob("*.wandb"))
    assert len(files) == 1
    assert files[0].stat().st_size > 1000
    assert list((tmp_path / "run").rglob("media/images/**/*.png"))
