"""Checkpoints are complete or absent, signals end a run cleanly, and it resumes to the same weights bit by bit."""

import errno
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback

import tiny
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.training import AtomicCheckpointIO, Interrupted, RunCheckpoint

CONTENT = {"state_dict": {"weight": torch.arange(500.0)}, "callbacks": {"a": [1, "b"]}}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    AtomicCheckpointIO().save_checkpoint(CONTENT, tmp_path / "new" / "last.ckpt")
    found = AtomicCheckpointIO().load_checkpoint(tmp_path / "new" / "last.ckpt")
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert found["callbacks"] == CONTENT["callbacks"]


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_what_the_disk_refuses_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    before = path.read_bytes()

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(UserError, match=r"no space left while writing .*last\.ckpt"):
        AtomicCheckpointIO().save_checkpoint({"other": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


@settings(max_examples=60)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(CONTENT, path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    found, reported = CONTENT, str(path)
    try:
        found = AtomicCheckpointIO().load_checkpoint(path)
    except UserError as error:
        reported = str(error)
    assert str(path) in reported
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert found["callbacks"] == CONTENT["callbacks"]


class Signal(Callback):
    """A signal in a step, sent more than once, as a cluster and a parent process may do."""

    def __init__(self, step: int, signum: int = signal.SIGTERM) -> None:
        self.step, self.signum = step, signum

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            for _ in range(1 if self.signum == signal.SIGINT else 3):
                os.kill(os.getpid(), self.signum)


def run(folder: Path, every: int, *steps: int) -> tuple[dict[str, torch.Tensor], list, LabelStore]:
    """A run that is interrupted in each of ``steps`` and resumed; its weights, records and labels."""
    saved: list[int] = []
    for step in (*steps, None):
        data, network = tiny.datamodule(), tiny.module()
        active = tiny.loop(folder / "labels", data)
        saver = RunCheckpoint(folder, every)
        callbacks = [*([Signal(step)] if step is not None else []), saver]
        trainer = tiny.trainer(folder, active, *callbacks, enable_checkpointing=True)
        start = saver.path
        arguments = {"datamodule": data, "ckpt_path": start if start.is_file() else None, "weights_only": True}
        if step is None:
            trainer.fit(network, **arguments)
        else:
            with pytest.raises(Interrupted) as caught:
                trainer.fit(network, **arguments)
            assert caught.value.exit_code == 143
            saved.append(torch.load(start, weights_only=True)["global_step"])
    # A stage of steps 0-2, one of 3-4, one of 5-7: a signal in a stage's last step interrupts the validation after it.
    assert saved == [step if step in (2, 4, 7) else step + 1 for step in steps]
    return network.state_dict(), active.history, LabelStore.open(folder / "labels")


@pytest.mark.parametrize("steps", [(0,), (1,), (2,), (3,), (4,), (5,), (7,), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_a_run_that_was_interrupted_at_any_step_ends_the_same(tmp_path: Path, steps: tuple[int, ...]) -> None:
    whole, interrupted = run(tmp_path / "whole", 1000), run(tmp_path / "parts", 1000, *steps)
    assert whole[0].keys() == interrupted[0].keys()
    assert all(torch.equal(value, interrupted[0][name]) for name, value in whole[0].items())
    assert whole[1] == interrupted[1]
    for image, number in ((image, number) for image in whole[2].queried_images for number in (1, 2)):
        ours, theirs = whole[2].answers(image, number), interrupted[2].answers(image, number)
        assert ours is not None
        assert theirs is not None
        assert (ours.centres == theirs.centres).all()
        assert (ours.values == theirs.values).all()
        assert (ours.scores == theirs.scores).all()


def test_a_checkpoint_every_so_many_steps_and_before_a_stages_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    monkeypatch.setattr(
        AtomicCheckpointIO,
        "save_checkpoint",
        lambda self, checkpoint, *_, **__: written.append(checkpoint["global_step"]),
    )
    data = tiny.datamodule()
    active = tiny.loop(tmp_path / "labels", data, rounds=1)  # stages of 3 and 5 steps
    trainer = tiny.trainer(tmp_path, active, RunCheckpoint(tmp_path, 2), enable_checkpointing=True)
    trainer.fit(tiny.module(), datamodule=data)
    assert written == [2, 3, 4, 6, 7, 8]


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]


@pytest.mark.parametrize(("signum", "code"), SIGNALS)
def test_each_signal_ends_the_run_with_its_code_and_is_given_back(
    tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    before, data = signal.getsignal(signum), tiny.datamodule()
    saver = RunCheckpoint(tmp_path)
    trainer = tiny.trainer(
        tmp_path, tiny.loop(tmp_path / "labels", data), Signal(1, signum), saver, enable_checkpointing=True
    )
    with pytest.raises(Interrupted, match=f"interrupted by {signum.name} after step 2, with a checkpoint") as caught:
        trainer.fit(tiny.module(), datamodule=data)
    assert caught.value.exit_code == code
    assert torch.load(saver.path, weights_only=True)["global_step"] == 2
    assert signal.getsignal(signum) is before


def test_a_second_ctrl_c_ends_the_run_at_once(tmp_path: Path) -> None:
    class Twice(Callback):
        def on_train_batch_start(self, trainer, *arguments) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    data, saver = tiny.datamodule(), RunCheckpoint(tmp_path)
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), Twice(), saver, enable_checkpointing=True)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(SystemExit) as caught:  # Lightning's answer to a KeyboardInterrupt
        trainer.fit(tiny.module(), datamodule=data)
    assert isinstance(caught.value.__context__, KeyboardInterrupt)
    assert not saver.path.exists()
    signal.signal(signal.SIGINT, before)  # which Lightning has switched off


def test_the_first_signal_decides(tmp_path: Path) -> None:
    class Both(Callback):
        def on_train_batch_start(self, trainer, *arguments) -> None:
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)

    data, saver = tiny.datamodule(), RunCheckpoint(tmp_path)
    trainer = tiny.trainer(tmp_path, tiny.loop(tmp_path / "labels", data), Both(), saver, enable_checkpointing=True)
    with pytest.raises(Interrupted) as caught:
        trainer.fit(tiny.module(), datamodule=data)
    assert caught.value.exit_code == 138


def test_a_loop_of_ones_own_thread_leaves_signals_alone(tmp_path: Path) -> None:
    """Python lets only the main thread set handlers; notebooks may train in another one."""
    before, failed = signal.getsignal(signal.SIGTERM), []

    def fit() -> None:
        try:
            data = tiny.datamodule()
            active, saver = tiny.loop(tmp_path / "labels", data), RunCheckpoint(tmp_path)
            tiny.trainer(tmp_path, active, saver, enable_checkpointing=True).fit(tiny.module(), datamodule=data)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert not failed
    assert (tmp_path / "last.ckpt").is_file()
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_same_callback_serves_another_fit(tmp_path: Path) -> None:
    data, saver = tiny.datamodule(), RunCheckpoint(tmp_path)
    active = tiny.loop(tmp_path / "labels", data)
    trainer = tiny.trainer(tmp_path, active, Signal(1), saver, enable_checkpointing=True)
    with pytest.raises(Interrupted):
        trainer.fit(tiny.module(), datamodule=data)
    data, active = tiny.datamodule(), tiny.loop(tmp_path / "labels", data)
    trainer = tiny.trainer(tmp_path, active, saver, enable_checkpointing=True)
    trainer.fit(tiny.module(), datamodule=data, ckpt_path=saver.path, weights_only=True)
    assert [record.step for record in active.history] == [3, 5, 8]
