"""The warm-up that runs share: its checkpoint is kept under everything that the weights depend on."""

import os
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, Timeout
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, file_lock
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.training.checkpoint_io import AtomicCheckpointIO
from ripu_lightning.training.lightning_internals import callbacks_of

KEPT = 64
"""Warm-ups in the cache; the least recently used ones are removed. A sweep over more seeds would find none again."""
OWN = ("callbacks", "hyper_parameters")
"""Entries of a checkpoint that belong to one run: its config, its records, what its strategy has learned."""


class SharedWarmup(Callback):
    """Starts a run from the warm-up checkpoint of another run, or leaves its own; on one process of a run at most.

    The checkpoint is that of one step before the end of the first stage, which :class:`RunCheckpoint` writes in any
    run: the last step, the validation and the first round are each run's own. The run that trains a warm-up holds a
    lock, and others of the same key wait for it.

    Args:
        folder: of all warm-ups; made if missing.
        key: names everything that the warm-up depends on.
        step: step of the checkpoint: one less than the first stage has.
        last: the run's checkpoint.
    """

    def __init__(self, folder: Path, key: str, step: int, last: Path) -> None:
        self.path, self.step, self.last = folder / f"{key}.ckpt", step, last
        self._lock: BaseFileLock | None = None
        self._trains = False

    def find(self, trainer: Trainer, module: LightningModule) -> dict[str, Any] | None:
        """The warm-up as a checkpoint that the run could have written itself; None where this run trains it.

        Waits for another run that trains it.
        """
        try:
            with explained(self.path, "the run continues without a shared warm-up"):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._lock = self._wait()
        except UserError as error:
            rank_zero_warn(f"cache: {error}")
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
        """Let another run train the warm-up, where this one did not."""
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As :meth:`teardown`."""
        self._release()

    def _read(self, module: LightningModule) -> dict[str, Any] | None:
        if not self.path.is_file():
            return None
        try:
            found = dict(read_entries(self.path, "cache"))
            if found.get("global_step") != self.step or not _fits(found.get("state_dict"), module):
                raise UserError(f"cache: {self.path} is not a warm-up of this run")
            os.utime(self.path)
        except (UserError, OSError) as error:
            rank_zero_warn(f"{error}; the warm-up is trained again")
            return None
        return found

    def _keep(self) -> None:
        try:
            checkpoint = dict(read_entries(self.last, "checkpoint"))
            if checkpoint.get("global_step") == self.step:
                shared = {key: value for key, value in checkpoint.items() if key not in OWN}
                AtomicCheckpointIO().save_checkpoint(shared, self.path)
                self._remove_old()
        except (UserError, OSError) as error:
            rank_zero_warn(f"cache: the warm-up is not shared: {error}")

    def _remove_old(self) -> None:
        warmups = sorted(self.path.parent.glob("*.ckpt"), key=lambda path: path.stat().st_mtime)
        for path in warmups[:-KEPT]:
            path.unlink(missing_ok=True)
            path.with_suffix(".lock").unlink(missing_ok=True)

    def _wait(self) -> BaseFileLock | None:
        """The lock, once no other run has it; None on a disk without locks."""
        lock = file_lock(self.path.with_suffix(".lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            print(f"waiting for the warm-up that another run trains: {self.path}", flush=True)
            lock.acquire()
        except (OSError, NotImplementedError):
            return None
        return lock

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
        self._lock, self._trains = None, False


def _fits(state: object, module: LightningModule) -> bool:
    wanted = module.state_dict()
    return (
        isinstance(state, dict)
        and state.keys() == wanted.keys()
        and all(isinstance(value, Tensor) and value.shape == wanted[key].shape for key, value in state.items())
    )
