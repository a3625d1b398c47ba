"""Names of Lightning that it does not promise: each is used in one file, and is there in the installed release."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

import ripu_lightning
import tiny
from ripu_lightning.training.lightning_internals import (
    callbacks_of,
    complete_epoch,
    delay_kill,
    leave_signals_alone,
    replaces_samplers,
)

ADVICE = "this release of pytorch-lightning changed it: adapt training/lightning_internals.py or exclude the release"
LIGHTNING = r"(?:pytorch_lightning|lightning_fabric)"
PRIVATE = re.compile(
    rf"(?:from|import) {LIGHTNING}\S*\._|from {LIGHTNING}\S* import .*\b_\w|\b(?:trainer|launcher|logger)\._\w"
)


def test_each_name_is_there_and_does_what_it_is_used_for() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    assert isinstance(trainer._signal_connector, _SignalConnector), ADVICE
    assert callable(_SignalConnector.register_signal_handlers), ADVICE
    leave_signals_alone(trainer)
    trainer._signal_connector.register_signal_handlers()
    assert trainer._signal_connector._original_handlers == {}, ADVICE
    assert trainer.received_sigterm is False, ADVICE
    assert replaces_samplers(trainer) is True, ADVICE
    assert replaces_samplers(Trainer(use_distributed_sampler=False, accelerator="cpu", logger=False)) is False, ADVICE
    assert callbacks_of(trainer) is trainer.callbacks, ADVICE


def test_the_kill_after_the_end_of_a_process_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[object] = []
    monkeypatch.setattr("time.sleep", happened.append)
    monkeypatch.setattr(os, "kill", lambda pid, signum: happened.append("kill"))
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    ended.wait()
    observer = _ChildProcessObserver(os.getpid(), [ended])
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.current_thread(), observer])
    delay_kill(30)
    delay_kill(20)  # of the next fit of this process
    observer.run()
    assert happened == [5, 20, "kill"], ADVICE


def test_no_other_file_uses_private_names_of_lightning() -> None:
    package = Path(ripu_lightning.__file__).parent
    found = []
    for path in package.rglob("*.py"):
        lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        found += [f"{path.name}:{number}" for number, line in lines if PRIVATE.search(line)]
    assert {place.split(":")[0] for place in found} <= {"lightning_internals.py"}, found


def test_a_checkpoint_of_an_epochs_last_step_becomes_one_of_its_end(tmp_path: Path) -> None:
    data = tiny.datamodule()
    last = ModelCheckpoint(tmp_path / "last", filename="{step}", every_n_train_steps=5, save_top_k=-1)
    end = ModelCheckpoint(tmp_path / "end", filename="{step}", every_n_epochs=1, save_top_k=-1)
    active = tiny.loop(tmp_path / "labels", data)
    tiny.trainer(tmp_path, active, last, end, enable_checkpointing=True).fit(tiny.module(), datamodule=data)
    at_step, at_end = (torch.load(tmp_path / kind / "step=5.ckpt", weights_only=True) for kind in ("last", "end"))
    before = at_end["loops"]["fit_loop"]
    complete_epoch(at_step)
    complete_epoch(at_end)
    assert at_end["loops"]["fit_loop"] == before, ADVICE
    assert at_step["loops"]["fit_loop"] == before, ADVICE
