"""Ctrl-C, SIGTERM and SIGUSR1: a run finishes its step, writes a checkpoint and ends with the signal's exit code."""

import os
import signal
import time
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector

from ripu_lightning.errors import UserError
from ripu_lightning.signals import SIGNALS, held_back, let_through

AGAIN = 1.0
"""Seconds within which a signal that comes again is the same one: a cluster and a parent may both send it."""


class Interrupted(UserError):
    """A run that was asked to end; it has not failed.

    Attributes:
        exit_code: 130, 143 or 138, as a shell gives for the signal.
    """

    def __init__(self, signum: int, where: str) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name} {where}: the same command goes on")
        self.exit_code = 128 + signum


class Interruption(Callback, AbstractContextManager["Interruption"]):
    """Notes the first signal of a block, which ends the run where nothing is lost; a second Ctrl-C ends it at once.

    Inside a stage that is after the step, see :class:`~ripu_lightning.training.checkpoints.RunCheckpoint`; in
    validation and in a round it is the next image, as the checkpoint is but one step old. Give it to the trainer, let
    it :meth:`lead` that trainer, and use it around ``fit``.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._noted = 0.0
        self._before: dict[int, Any] = {}
        self._trainer: Trainer | None = None

    def __enter__(self) -> "Interruption":
        self._before = {each: signal.signal(each, self._note) for each in SIGNALS}
        let_through()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def lead(self, trainer: Trainer) -> None:
        """Take the signals of a trainer's processes, those that it will start too; before ``fit``."""
        self._trainer = trainer
        trainer._signal_connector = _NoHandlers(trainer)
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            start = launcher._call_children_scripts

            def start_held_back() -> None:
                with held_back():
                    start()

            vars(launcher)["_call_children_scripts"] = start_held_back

    def agreed(self, trainer: Trainer) -> bool:
        """Whether any rank was asked to end; to be called by all of them after the same step."""
        return bool(trainer.strategy.reduce_boolean_decision(self.signum is not None, all=False))

    def end_run(self, where: str) -> None:
        """Raise :class:`Interrupted`; on a rank without a signal of its own, as for SIGTERM."""
        raise Interrupted(self.signum or signal.SIGTERM, where)

    def check(self) -> None:
        """Between the images of a validation or a round. Raises Interrupted where a signal asked for it."""
        if self.signum is not None:
            self.end_run("between two stages, after its last checkpoint")

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        """See :meth:`check`."""
        self.check()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._noted = signum, time.monotonic()
            self._pass_on(signum)
        elif signum == signal.SIGINT and time.monotonic() - self._noted > AGAIN and self._leads():
            print(f"\n{Interrupted(signum, 'at once, after its last checkpoint')}", flush=True)
            os._exit(128 + signum)  # whatever else waits, or would wait for other ranks; they end with this one

    def _leads(self) -> bool:
        return self._trainer is None or self._trainer.is_global_zero

    def _pass_on(self, signum: int) -> None:
        launcher = self._trainer.strategy.launcher if self._trainer else None
        for process in getattr(launcher, "procs", ()):
            process.send_signal(signum)


class _NoHandlers(_SignalConnector):
    """In the place of Lightning's handlers, which talk to other ranks in the midst of a step: there is no switch."""

    def register_signal_handlers(self) -> None:
        pass


def check_interruption(trainer: Trainer) -> None:
    """:meth:`Interruption.check` where the trainer has one; for loops of our own."""
    for callback in getattr(trainer, "callbacks", ()):
        if isinstance(callback, Interruption):
            callback.check()
