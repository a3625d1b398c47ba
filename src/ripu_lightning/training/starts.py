"""The start that runs share: what a network has learned just before the first round, kept under all it depends on."""

import fcntl
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.training.checkpoints import WholeCheckpoints
from ripu_lightning.training.loop import callbacks_of

KEPT = 64
"""Starts in the cache; those that were not used for the longest time are removed.

A sweep that goes through more seeds than this, again and again, would find each start removed.
"""
OWN = ("callbacks", "hyper_parameters")
"""Entries of a checkpoint that belong to one run: its config, its records, what its strategy has learned."""


class SharedStart(Callback):
    """Starts a run from the checkpoint that another one has left, or leaves its own; one process of a run at most.

    It is the checkpoint of one step before the end of the first stage, which :class:`RunCheckpoint` writes in any
    run: the last step, the validation and the first round are each run's own. Whoever trains a start holds a lock, and
    others of the same key wait for it.

    Args:
        folder: of all starts; made if missing.
        key: names all that the start depends on.
        step: at which it is taken: one less than the first stage has.
        last: the run's checkpoint.
    """

    def __init__(self, folder: Path, key: str, step: int, last: Path) -> None:
        self.path, self.step, self.last = folder / f"{key}.ckpt", step, last
        self._lock: int | None = None
        self._trains = False

    def find(self, trainer: Trainer, module: LightningModule) -> dict[str, Any] | None:
        """The start, where there is one, as a checkpoint that the run could have written itself.

        Where there is none this run is to train it. Waits for another run that does.
        """
        try:
            with explained(self.path, "the run goes on without a shared start"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = self._wait()
        except UserError as error:
            rank_zero_warn(f"data.cache: {error}")
            return None
        found = self._read(module)
        self._trains = found is None
        if found is None:
            return None
        self._release()
        states = {callback.state_key: callback.state_dict() for callback in callbacks_of(trainer)}
        found["callbacks"] = {key: state for key, state in states.items() if state}
        found["hyper_parameters"] = dict(module.hparams)
        return found

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Before the last step of the first stage: the checkpoint of the step before is there."""
        if self._trains and trainer.global_step == self.step:
            self._keep()
            self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let another run train the start, where this one did not."""
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As :meth:`teardown`."""
        self._release()

    def _read(self, module: LightningModule) -> dict[str, Any] | None:
        if not self.path.is_file():
            return None
        try:
            found = dict(read_entries(self.path, "data.cache"))
            if found.get("global_step") != self.step or not _fits(found.get("state_dict"), module):
                raise UserError(f"data.cache: {self.path} is no start of this run")
            os.utime(self.path)
        except (UserError, OSError) as error:
            rank_zero_warn(f"{error}; the start is trained anew")
            return None
        return found

    def _keep(self) -> None:
        try:
            checkpoint = dict(read_entries(self.last, "checkpoint"))
            if checkpoint.get("global_step") == self.step:
                whole = {key: value for key, value in checkpoint.items() if key not in OWN}
                WholeCheckpoints().save_checkpoint(whole, self.path)
                self._remove_old()
        except (UserError, OSError) as error:
            rank_zero_warn(f"data.cache: the start is not shared: {error}")

    def _remove_old(self) -> None:
        starts = sorted(self.path.parent.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
        for path in starts[:-KEPT]:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)

    def _wait(self) -> int | None:
        """The lock, once no other run has it; None on a disk without locks."""
        with ExitStack() as unless_locked:
            descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            unless_locked.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for the start that another run trains: {self.path}", flush=True)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError:
                return None
            unless_locked.pop_all()
        return descriptor

    def _release(self) -> None:
        if self._lock is not None:
            # Not by closing alone: the workers of a loader share the open file.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
        self._lock, self._trains = None, False


def _fits(state: object, module: LightningModule) -> bool:
    wanted = module.state_dict()
    return (
        isinstance(state, dict)
        and state.keys() == wanted.keys()
        and all(isinstance(value, Tensor) and value.shape == wanted[key].shape for key, value in state.items())
    )
