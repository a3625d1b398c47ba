"""Everything of Lightning that this package uses without Lightning promising it; a test names each part.

Lightning has no public switch for its signal handlers, kills a run at once when one of its processes ended, does not
say whether it replaces samplers, does not declare ``Trainer.callbacks``, and takes a checkpoint of an epoch's last step
for one inside the epoch.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.trainer.connectors.signal_connector import _SignalConnector


class _NoHandlers(_SignalConnector):
    """Installs nothing: Lightning's own handlers talk to the other ranks in the middle of a step."""

    def register_signal_handlers(self) -> None:
        pass


def leave_signals_alone(trainer: Trainer) -> None:
    """Keep Lightning from installing signal handlers in this ``fit``; call it in a ``setup`` hook or earlier."""
    trainer._signal_connector = _NoHandlers(trainer)


def delay_kill(seconds: float) -> None:
    """Let the first process of a run name the one that ended: Lightning kills it up to 5 seconds after that.

    Args:
        seconds: between the end of a process and the kill, which is still needed where the others hang.
    """
    for thread in threading.enumerate():
        if isinstance(thread, _ChildProcessObserver):
            thread._terminate_all = _Delayed(thread._terminate_all, seconds)  # type: ignore[method-assign]


class _Delayed:
    """A function that is called after some seconds; the first delay of one stays."""

    def __init__(self, function: Any, seconds: float) -> None:
        self.function, self.seconds = getattr(function, "function", function), seconds

    def __call__(self) -> None:
        time.sleep(self.seconds)
        self.function()


def replaces_samplers(trainer: Trainer) -> bool:
    """Whether Lightning replaces the samplers of a distributed run by its own (``use_distributed_sampler``)."""
    return bool(trainer._accelerator_connector.use_distributed_sampler)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The trainer's list of callbacks, in the order in which they are called."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def complete_epoch(checkpoint: dict[str, Any]) -> None:
    """Turn a checkpoint that was written at an epoch's last step into one that was written at the epoch's end.

    Otherwise a run that resumes would take the steps of the next epoch for done as far as this one went. A checkpoint
    of an epoch's end stays as it is.
    """
    state = checkpoint["loops"]["fit_loop"]
    for part in ("total", "current"):
        batches, epochs = state["epoch_loop.batch_progress"][part], state["epoch_progress"][part]
        batches["completed"] = batches["processed"]
        epochs["processed"] = epochs["started"]
    state["epoch_loop.state_dict"]["_batches_that_stepped"] = checkpoint["global_step"]
    validation = state["epoch_loop.val_loop.batch_progress"]
    validation["total"] = dict(validation["current"])


def batches_done(checkpoint: Mapping[str, Any]) -> int:
    """Batches of the epoch inside which a checkpoint was written, up to then."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"])


def drop_loader_states(checkpoint: dict[str, Any]) -> None:
    """Remove the states of a checkpoint's loaders: Lightning refuses them where the number of loaders differs."""
    checkpoint["loops"]["fit_loop"]["state_dict"].pop("combined_loader", None)
