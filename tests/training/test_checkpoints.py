"""Checkpoints are written whole or not at all, read as data alone, and a run goes on from them bit by bit."""

import errno
import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback

import tiny
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.training.checkpoints import RunCheckpoint, WholeCheckpoints
from ripu_lightning.training.interruption import Interrupted, Interruption

CONTENT = {"state_dict": {"weight": torch.arange(500.0)}, "callbacks": {"a": [1, "b"]}}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    WholeCheckpoints().save_checkpoint(CONTENT, tmp_path / "new" / "last.ckpt")
    found = WholeCheckpoints().load_checkpoint(tmp_path / "new" / "last.ckpt")
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert found["callbacks"] == CONTENT["callbacks"]


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_what_the_disk_refuses_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    before = path.read_bytes()

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(UserError, match=r"no space left while writing .*last\.ckpt"):
        WholeCheckpoints().save_checkpoint({"other": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


@settings(max_examples=60)
@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, position: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "last.ckpt"
    WholeCheckpoints().save_checkpoint(CONTENT, path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 1 << bit
    path.write_bytes(content)
    found, told = CONTENT, str(path)
    try:
        found = WholeCheckpoints().load_checkpoint(path)
    except UserError as error:
        told = str(error)
    assert str(path) in told
    assert torch.equal(found["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert found["callbacks"] == CONTENT["callbacks"]


class Signal(Callback):
    """A signal that comes within a step, once."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def run(folder: Path, every: int, *steps: int) -> tuple[dict[str, torch.Tensor], list, LabelStore]:
    """A run that is interrupted in each of ``steps`` and goes on; its weights, records and labels."""
    saved: list[int] = []
    for step in (*steps, None):
        data, network, interruption = tiny.datamodule(), tiny.module(), Interruption()
        active = tiny.loop(folder / "labels", data)
        saver = RunCheckpoint(folder, every, interruption)
        callbacks = [interruption, *([Signal(step)] if step is not None else []), saver]
        trainer = tiny.trainer(folder, active, *callbacks, enable_checkpointing=True)
        trainer.strategy.checkpoint_io = WholeCheckpoints()
        start = folder / "last.ckpt"
        arguments = {"datamodule": data, "ckpt_path": start if start.is_file() else None, "weights_only": True}
        if step is None:
            trainer.fit(network, **arguments)
        else:
            with pytest.raises(Interrupted) as caught, interruption:
                trainer.fit(network, **arguments)
            assert caught.value.exit_code == 143
            saved.append(torch.load(start, weights_only=True)["global_step"])
    # A stage of steps 0-2, one of 3-4, one of 5-7: after a stage's last step comes a validation, which is left.
    assert saved == [step if step in (2, 4, 7) else step + 1 for step in steps]
    return network.state_dict(), active.history, LabelStore.open(folder / "labels")


@pytest.mark.parametrize("steps", [(0,), (1,), (2,), (3,), (4,), (5,), (7,), (0, 1, 2, 3, 4, 5, 6, 7)])
def test_interrupted_at_any_step_it_ends_as_if_nothing_had_been(tmp_path: Path, steps: tuple[int, ...]) -> None:
    whole, interrupted = run(tmp_path / "whole", 1000), run(tmp_path / "parts", 1000, *steps)
    assert whole[0].keys() == interrupted[0].keys()
    assert all(torch.equal(value, interrupted[0][name]) for name, value in whole[0].items())
    assert whole[1] == interrupted[1]
    for image, number in ((image, number) for image in whole[2].touched for number in (1, 2)):
        ours, theirs = whole[2].answers(image, number), interrupted[2].answers(image, number)
        assert ours is not None
        assert theirs is not None
        assert (ours.centres == theirs.centres).all()
        assert (ours.values == theirs.values).all()
        assert (ours.scores == theirs.scores).all()


def test_a_checkpoint_every_so_many_steps_and_before_a_stages_end(tmp_path: Path) -> None:
    written: list[int] = []

    class Noting(WholeCheckpoints):
        def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
            written.append(checkpoint["global_step"])

    data = tiny.datamodule()
    active = tiny.loop(tmp_path / "labels", data, rounds=1)  # stages of 3 and 5 steps
    trainer = tiny.trainer(tmp_path, active, RunCheckpoint(tmp_path, 2, Interruption()), enable_checkpointing=True)
    trainer.strategy.checkpoint_io = Noting()
    trainer.fit(tiny.module(), datamodule=data)
    assert written == [2, 3, 4, 6, 7, 8]
