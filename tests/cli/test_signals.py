"""Signals while a run is under way: an exit code, a checkpoint, and the same end when the same command resumes."""

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from in_process import call_inside
from processes import SHORT, end, start, wait_for
from test_train_command import SMALL, assert_one_line

from ripu_lightning.report.ledger import read_ledger

LONG = ["schedule.steps=90", "schedule.first_round=70", "schedule.interval=10", "schedule.horizon=200", "pictures=0"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def test_ctrl_c_finishes_the_step_and_the_same_command_resumes_to_the_same_end(tmp_path: Path) -> None:
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
    assert 7 <= step < 70  # inside the first stage
    again = end(start(tmp_path, *options, "output=run"))
    whole = call_inside("ripu-train", *SMALL, *options, "output=whole", cwd=tmp_path)
    assert (again.returncode, whole.returncode) == (0, 0), again.stderr[-2000:]
    ours, theirs = weights(tmp_path / "run"), weights(tmp_path / "whole")
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())
    assert (tmp_path / "run" / "rounds.csv").read_bytes() == (tmp_path / "whole" / "rounds.csv").read_bytes()
    ledgers = [read_ledger(tmp_path / name / "ledger.json") for name in ("run", "whole")]
    costs = [[replace(cost, sha256="") for cost in ledger.rounds] for ledger in ledgers]  # which depends on the time
    assert costs[0] == costs[1] != []


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


@pytest.mark.parametrize("busy", [True, False], ids=["while it ends", "while it waits for a rank"])
def test_a_second_ctrl_c(tmp_path: Path, busy: bool) -> None:
    script = Path(__file__).with_name("planted.py")
    command = (sys.executable, str(script), "rank_1_is_slow")
    process = start(tmp_path, *SHORT, "output=run", "trainer.devices=2", command=command)
    wait_for(tmp_path / "slow", process)
    time.sleep(0 if busy else 1)  # rank 0 has images of its own to score
    for _ in range(2):
        with contextlib.suppress(ProcessLookupError):  # it may have ended after the first
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.3 if busy else 1.5)
    done = end(process)
    assert done.returncode == 130, done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_a_second_run_in_the_folder_is_refused_and_the_first_continues(tmp_path: Path) -> None:
    longer = ["schedule.steps=3000", "schedule.first_round=2900", "schedule.horizon=4000", "output=run"]
    first = start(tmp_path, *LONG, *longer, "checkpoint_every=7")
    wait_for(tmp_path / "run" / "checkpoints" / "last.ckpt", first)
    second = call_inside("ripu-train", *SMALL, *LONG, *longer, cwd=tmp_path)
    assert_one_line(second, "is being written by process", str(first.pid))
    assert first.poll() is None
    first.send_signal(signal.SIGUSR1)
    assert end(first).returncode == 138
