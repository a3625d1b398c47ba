"""Faults of machines and people while a run is under way: a line, an exit code, an end, and nothing lost."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import call_inside
from PIL import Image
from processes import SHORT, planted
from test_train_command import SMALL, assert_one_line

from ripu_lightning.labels import LabelStore


def run(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """A run without a fault of its own, inside this process."""
    return call_inside("ripu-train", *SMALL, *options, cwd=folder)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("rank_1_dies", "rank 1 ended or did not answer"),
        ("rank_1_dies_scoring", "rank 1 ended or did not answer within 6 seconds (images of a round)"),
        ("rank_1_is_slow", "rank 1 ended or did not answer within 6 s"),
    ],
)
def test_a_rank_that_is_gone_is_named(tmp_path: Path, fault: str, words: str) -> None:
    done = planted(tmp_path, fault, *SHORT, "output=run", "trainer.devices=2", "rank_patience=0.1")
    assert done.returncode == 1, done.stderr[-2000:]
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_worker_is_reported_and_the_run_resumes_later(tmp_path: Path) -> None:
    done = planted(tmp_path, "worker_is_killed", *SHORT, "output=run", "data.num_workers=1")
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, len(lines)) == (1, 1), done.stderr[-2000:]  # torch's destructors may complain, too
    assert "was killed" in lines[0]
    assert "data.num_workers" in lines[0]


def folder_data(folder: Path) -> list[str]:
    """A domain pair of real files, and the overrides that read it."""
    rng = np.random.default_rng(0)
    for domain in ("source", "target"):
        for split, kind in [(split, kind) for split in ("train", "val") for kind in ("images", "labels")]:
            (folder / domain / kind / split).mkdir(parents=True)
            for number in range(4):
                shape = (48, 64, 3) if kind == "images" else (48, 64)
                picture = rng.integers(0, 256 if kind == "images" else 2, shape, dtype=np.uint8)
                Image.fromarray(picture).save(folder / domain / kind / split / f"{number}.png")
    (folder / "classes.yaml").write_text(
        "classes:\n  - {name: a, color: [1, 2, 3], ids: [0]}\n  - {name: b, color: [4, 5, 6], ids: [1]}\n"
    )
    roots = [f"data.{domain}.root={folder / domain}" for domain in ("source", "target")]
    return ["data=folder", *roots, f"data.source.classes={folder / 'classes.yaml'}"]


def test_data_that_vanish_are_named(tmp_path: Path) -> None:
    small = [item for item in SMALL if ".length" not in item and ".height" not in item and ".width" not in item]
    data = folder_data(tmp_path / "data")
    done = planted(tmp_path, "data_vanish", *data, *SHORT, "network.width=8", "output=run", small=small)
    assert_one_line(done, str(tmp_path / "data" / "target" / "images"))


def test_a_full_disk_costs_the_checkpoint_of_that_moment_alone(tmp_path: Path) -> None:
    options = [*SHORT, "checkpoint_every=3", "output=run"]
    done = planted(tmp_path, "disk_is_full", *options)
    assert_one_line(done, "no space left", "last.ckpt", "free some space")
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    again = run(tmp_path, *options)
    assert again.returncode == 0, again.stderr[-2000:]
    assert len(LabelStore.open(tmp_path / "run" / "labels").rounds) == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert_one_line(run(tmp_path, *SHORT, "output=file/run"), "file/run", "check the path")


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is through."""
    folder = tmp_path_factory.mktemp("complete")
    assert run(folder, *SHORT, "output=run").returncode == 0
    return folder / "run"


def test_a_damaged_checkpoint_is_named_and_the_labels_are_used_again(complete: Path, tmp_path: Path) -> None:
    shutil.copytree(complete, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_one_line(run(tmp_path, *SHORT, "output=run"), str(path), "damaged")
    path.unlink()
    before = rounds(tmp_path / "run")
    assert run(tmp_path, *SHORT, "output=run").returncode == 0
    assert rounds(tmp_path / "run") == before
    assert len(before) == 2


def rounds(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in (folder / "labels").glob("*.parquet")}


def test_a_round_that_was_set_aside_answers_what_is_asked_again(complete: Path, tmp_path: Path) -> None:
    shutil.copytree(complete, tmp_path / "run")
    before = rounds(tmp_path / "run")
    labels = [sys.executable, "-m", "ripu_lightning.cli.labels"]
    subprocess.run([*labels, "rollback", "run", "1"], cwd=tmp_path, check=True, capture_output=True)
    refused = run(tmp_path, *SHORT, "output=run")
    assert_one_line(refused, "1 of the 2 rounds that the checkpoint", "ripu-labels rollback")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    again = planted(tmp_path, "nobody_answers", *SHORT, "output=run")
    assert again.returncode == 0, again.stderr[-2000:]
    assert before.items() <= rounds(tmp_path / "run").items()
    store = LabelStore.open(tmp_path / "run" / "labels")
    assert [entry.file for entry in store.rounds] == ["round_001.parquet", "round_002_2.parquet"]
    assert [entry.file for entry in store.inactive] == ["round_002.parquet"]
    assert store.rounds[1].pixels == store.inactive[0].pixels
