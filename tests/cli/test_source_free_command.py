"""A source-only network and then rounds from step 0 without the source: one command, two steps."""

from pathlib import Path

import pytest
import torch
import yaml
from in_process import call_inside
from test_train_command import SMALL, assert_one_line, call

from ripu_lightning.labels import LabelStore

QUICK = [item for item in SMALL if not item.startswith("data.source") and item != "budget.rounds=2"]
COMMAND = ["ripu-train", "experiment=demo_source_free", *QUICK, "pictures=1", "output=run"]
EARLY = ["budget.rounds=2", "schedule.first_round=0"]
# What holds for both steps in addition to the data and the network, which COMMAND has.
SHARED = ["seed=3", "parity.eps=1e-6", "logger=tensorboard", "trainer.log_every_n_steps=7"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("source_free")
    result = call(*COMMAND, *EARLY, *SHARED, cwd=folder, TEST_SPARES="1")
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


def test_the_first_step_trains_on_the_source_alone(done: tuple[Path, str]) -> None:
    first = yaml.safe_load((done[0] / "run" / "pretrain" / "config.yaml").read_text())
    assert list(first["loss"]["terms"]) == ["source_ce"]
    assert first["data"]["source"]["domain"] == "source"
    assert first["budget"]["rounds"] == 0
    # Said on the command line, and held for both.
    assert (first["network"]["width"], first["seed"], first["trainer"]["log_every_n_steps"]) == (8, 3, 7)
    assert first["parity"]["eps"] == 1e-6
    assert "tensorboard" in first["logger"]


def test_the_second_buys_before_its_first_step_and_never_sees_the_source(done: tuple[Path, str]) -> None:
    run = done[0] / "run"
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["source"] is None
    assert len(LabelStore.open(run / "labels").rounds) == 2
    rows = (run / "rounds.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:2] for row in rows] == [["0", "0"], ["1", "1"], ["2", "7"]]
    assert [len(list((run / "pictures" / f"round_{number}").glob("*.png"))) for number in range(3)] == [1, 1, 1]
    # The start is what the first step ended with, at the same weights.
    first = (run / "pretrain" / "rounds.csv").read_text().splitlines()[-1]
    assert rows[0].split(",")[6:] == first.split(",")[6:]


def test_the_same_command_again_trains_nothing(done: tuple[Path, str]) -> None:
    folder, _ = done
    before = (folder / "run" / "pretrain" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    (folder / "run" / "checkpoints" / "last.ckpt").unlink()  # killed before its first checkpoint
    again = call_inside(*COMMAND, *EARLY, *SHARED, cwd=folder)
    assert again.returncode == 0, again.stderr[-3000:]
    assert (folder / "run" / "pretrain" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before
    assert "first step" not in again.stdout


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["initial=other.ckpt"], ["initial", "pretrain=null"]),
        (["pretrain=null", "initial=nowhere.ckpt"], ["nowhere.ckpt"]),
        (["pretrain=null", "initial=other.ckpt", "network.width=4"], ["initial", "network"]),
        (["pretrain=null", "loss=ripu"], ["loss", "source images"]),
        (
            ["pretrain=null", "strategy=core_set", "budget=images", "budget.images=2"],
            ["core_set", "learns from the source"],
        ),
    ],
)
def test_mistakes(done: tuple[Path, str], overrides: list[str], words: list[str]) -> None:
    folder, _ = done
    checkpoint = torch.load(folder / "run" / "pretrain" / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(checkpoint, folder / "other.ckpt")
    refused = call_inside(*COMMAND[:-1], *EARLY, *overrides, "output=refused", cwd=folder)
    assert_one_line(refused, *words)
    assert not (folder / "refused" / "labels").exists()
