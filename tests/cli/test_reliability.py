"""Faults of machines and people while a run is under way: a line, an exit code, an end, and nothing lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_train_command import SCRIPTS, SMALL, assert_one_line

from ripu_lightning.labels import LabelStore

LONG = ["schedule.steps=160", "schedule.first_round=100", "schedule.interval=30", "schedule.horizon=200", "pictures=0"]
SHORT = ["schedule.steps=24", "schedule.first_round=8", "schedule.interval=6", "schedule.horizon=30", "pictures=0"]


def start(folder: Path, *arguments: str, command: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    environment.pop("LOCAL_RANK", None)
    return subprocess.Popen(
        [*(command or (str(SCRIPTS / "ripu-train"),)), *SMALL, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    """Wait for the process and all that it started; what it said."""
    stdout, stderr = process.communicate(timeout=120)
    for _ in range(300):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(f"a process lives on: {stderr[-2000:]}")


def planted(folder: Path, fault: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    script = Path(__file__).with_name("planted.py")
    return end(start(folder, *arguments, command=(sys.executable, str(script), fault)))


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    for _ in range(600):
        if path.is_file() or process.poll() is not None:
            return
        time.sleep(0.05)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def test_ctrl_c_finishes_the_step_and_the_same_command_goes_on_to_the_same_end(tmp_path: Path) -> None:
    options = [*LONG, "checkpoint_every=7", "data.num_workers=1", "network.dropout=0.3", "data.augment=[flip]"]
    process = start(tmp_path, *options, "output=run")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    done = end(process)
    assert done.returncode == 130
    assert "interrupted by SIGINT after step" in done.stdout
    assert "Traceback" not in done.stderr
    step = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"after step {step}, with a checkpoint" in done.stdout
    assert 7 <= step < 100  # amid the first stage
    again, whole = end(start(tmp_path, *options, "output=run")), end(start(tmp_path, *options, "output=whole"))
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr[-2000:]
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    assert (tmp_path / "run" / "rounds.csv").read_bytes() == (tmp_path / "whole" / "rounds.csv").read_bytes()


def test_sigterm_ends_two_ranks_after_the_same_step(tmp_path: Path) -> None:
    options = ["checkpoint_every=7", "output=run", "trainer.devices=2", "data.num_workers=1"]
    process = start(tmp_path, *LONG, *options)
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", process)
    os.killpg(process.pid, signal.SIGTERM)  # ranks and workers too, as systems do
    done = end(process)
    assert done.returncode == 143, done.stderr[-2000:]
    assert done.stdout.count("interrupted by SIGTERM after step") == 1
    assert "with a checkpoint" in done.stdout
    assert "Traceback" not in done.stderr
    assert "zombies" not in done.stderr


def members(session: int) -> int:
    """Processes of a session that live."""
    fields = [
        path.read_text().rpartition(")")[2].split() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()
    ]
    return sum(int(each[3]) == session and each[0] != "Z" for each in fields)


def test_ctrl_c_while_the_ranks_start(tmp_path: Path) -> None:
    process = start(tmp_path, *LONG, "output=run", "trainer.devices=2")
    while members(process.pid) < 2 and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.5)  # the second one has begun to import
    os.killpg(process.pid, signal.SIGINT)
    done = end(process)
    assert done.returncode == 130, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_a_second_ctrl_c_ends_a_run_that_waits_for_a_rank(tmp_path: Path) -> None:
    script = Path(__file__).with_name("planted.py")
    command = (sys.executable, str(script), "rank_1_is_slow")
    process = start(tmp_path, *SHORT, "output=run", "trainer.devices=2", command=command)
    wait_for(tmp_path / "slow", process)
    time.sleep(1)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(1.5)
    done = end(process)
    assert done.returncode == 130, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    longer = ["schedule.steps=3000", "schedule.first_round=2900", "schedule.horizon=4000", "output=run"]
    first = start(tmp_path, *LONG, *longer, "checkpoint_every=7")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", first)
    assert_one_line(end(start(tmp_path, *LONG, *longer)), "is being written by process", str(first.pid))
    assert first.poll() is None
    first.send_signal(signal.SIGUSR1)
    assert end(first).returncode == 138


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("rank_1_dies", "rank 1 ended or did not answer"),
        ("rank_1_dies_scoring", "rank 1 ended or did not answer within 6 seconds (queries of a round)"),
        ("rank_1_is_slow", "rank 1 ended or did not answer within 6 s"),
    ],
)
def test_a_rank_that_is_gone_is_named(tmp_path: Path, fault: str, words: str) -> None:
    done = planted(tmp_path, fault, *SHORT, "output=run", "trainer.devices=2", "rank_patience=0.1")
    assert done.returncode == 1, done.stderr[-2000:]
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_worker_is_told_and_the_run_goes_on_later(tmp_path: Path) -> None:
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
    script, environment = Path(__file__).with_name("planted.py"), {**os.environ, "OMP_NUM_THREADS": "1"}
    data = folder_data(tmp_path / "data")
    command = [sys.executable, str(script), "data_vanish", *small, *data, *SHORT, "network.width=8", "output=run"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert_one_line(done, str(tmp_path / "data" / "target" / "images"))


def test_a_full_disk_costs_the_checkpoint_of_that_moment_alone(tmp_path: Path) -> None:
    options = [*SHORT, "checkpoint_every=3", "output=run"]
    done = planted(tmp_path, "disk_is_full", *options)
    assert_one_line(done, "no space left", "last.ckpt", "free some space")
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))
    again = end(start(tmp_path, *options))
    assert again.returncode == 0, again.stderr[-2000:]
    assert len(LabelStore.open(tmp_path / "run" / "labels").rounds) == 2


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert_one_line(end(start(tmp_path, *SHORT, "output=file/run")), "file/run", "check the path")


def test_a_damaged_checkpoint_is_named_and_the_labels_are_used_again(tmp_path: Path) -> None:
    assert end(start(tmp_path, *SHORT, "output=run")).returncode == 0
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_one_line(end(start(tmp_path, *SHORT, "output=run")), str(path), "damaged")
    path.unlink()
    before = rounds(tmp_path / "run")
    assert end(start(tmp_path, *SHORT, "output=run")).returncode == 0
    assert rounds(tmp_path / "run") == before
    assert len(before) == 2


def rounds(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in (folder / "labels").glob("*.parquet")}


def test_a_round_that_was_set_aside_answers_what_is_asked_again(tmp_path: Path) -> None:
    assert end(start(tmp_path, *SHORT, "output=run")).returncode == 0
    before = rounds(tmp_path / "run")
    labels = [sys.executable, "-m", "ripu_lightning.cli.labels"]
    subprocess.run([*labels, "rollback", "run", "1"], cwd=tmp_path, check=True, capture_output=True)
    refused = end(start(tmp_path, *SHORT, "output=run"))
    assert_one_line(refused, "holds 1 rounds of labels, but the checkpoint was trained on 2", "ripu-labels rollback")
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    again = planted(tmp_path, "nobody_answers", *SHORT, "output=run")
    assert again.returncode == 0, again.stderr[-2000:]
    assert before.items() <= rounds(tmp_path / "run").items()
    store = LabelStore.open(tmp_path / "run" / "labels")
    assert [entry.file for entry in store.rounds] == ["round_001.parquet", "round_002_2.parquet"]
    assert [entry.file for entry in store.set_aside] == ["round_002.parquet"]
    assert store.rounds[1].pixels == store.set_aside[0].pixels
