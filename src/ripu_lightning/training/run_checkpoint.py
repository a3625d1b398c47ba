"""The checkpoint from which a run resumes, and the signals that end a run: it finishes its step, saves and exits."""

import signal
import threading
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from ripu_lightning.errors import UserError, require_integer
from ripu_lightning.signals import SIGNALS
from ripu_lightning.training.checkpoint_io import AtomicCheckpointIO
from ripu_lightning.training.lightning_internals import callbacks_of, leave_signals_alone


class Interrupted(UserError):
    """A signal ended the run; it has not failed.

    Args:
        signum: the signal.
        where: how far the run came.

    Attributes:
        exit_code: 128 + the signal's number, as in a shell: 130, 143 or 138.
    """

    def __init__(self, signum: int, where: str) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name} {where}; run it again to resume")
        self.exit_code = 128 + signum


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``last.ckpt``, from which a run resumes to the same result, and ends the run cleanly at a signal.

    The checkpoint is written at the end of each stage, every ``every`` steps inside one, one step before a stage's end
    (the validation and the round that follow may take long), and after the step in which a signal arrives. After a
    signal the run raises :class:`Interrupted`; a second Ctrl-C ends it at once. Give the callback to the trainer
    last, so that its checkpoints hold what the others did. To resume::

        trainer.fit(module, datamodule=data, ckpt_path=checkpoint.path if checkpoint.path.exists() else None)

    The result is the same if the draws of loader and module are functions of ``trainer.global_step``, as those of
    ActiveDataModule and SegmentationModule are. Otherwise the run resumes with other draws.

    Args:
        folder: folder of ``last.ckpt``; made if missing.
        every: steps between checkpoints inside a stage, 1 or more.

    Attributes:
        path: the checkpoint.
        signum: the signal that arrived; None before.

    Raises:
        InvalidArgument: ``every`` below 1.
    """

    def __init__(self, folder: str | Path, every: int = 1000) -> None:
        require_integer("RunCheckpoint", "every", every, 1)
        super().__init__(folder, filename="last", enable_version_counter=False)
        self.path, self.every = Path(folder) / "last.ckpt", every
        self.signum: int | None = None
        self._handlers: dict[int, Any] = {}
        self._trainer: Trainer | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take over checkpoints and signals of this ``fit``."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*exists and is not empty")  # a run that resumes
            super().setup(trainer, pl_module, stage)
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if stage == "fit" and threading.current_thread() is threading.main_thread():
            leave_signals_alone(trainer)
            self._trainer, self.signum = trainer, None  # of an earlier fit
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save inside a stage where it is time. Raises Interrupted after a signal."""
        done, inside = divmod(batch_idx + 1, trainer.accumulate_grad_batches)
        left = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches) - done
        # At a stage's end Lightning takes a checkpoint of now for one after it, and its round would be left out.
        if inside or not left:
            return
        interrupted = self._any_rank_interrupted(trainer)
        if interrupted or left == 1 or trainer.global_step % self.every == 0:
            trainer.save_checkpoint(self.path, weights_only=False)
        if interrupted:
            self._interrupt(f"after step {trainer.global_step}, with a checkpoint")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a stage and its round. Raises Interrupted after a signal."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._any_rank_interrupted(trainer):
            self._interrupt(f"after step {trainer.global_step}, with a checkpoint")

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any) -> None:
        """See :func:`raise_if_interrupted`."""
        self.raise_if_interrupted()

    def raise_if_interrupted(self) -> None:
        """Raise Interrupted after a signal: the last checkpoint is one step old, so nothing is lost."""
        if self.signum is not None:
            self._interrupt("between two stages, after its last checkpoint")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers, self._trainer = {}, None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back: Lightning calls no ``teardown`` after an error. Nothing is saved."""
        self.teardown(trainer, pl_module, "fit")

    def state_dict(self) -> dict[str, Any]:
        """Empty: a run's folder may be moved."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""

    def _note(self, signum: int, frame: FrameType | None) -> None:
        trainer, first = self._trainer, self.signum is None
        self.signum = self.signum or signum
        if not first or trainer is None or not trainer.is_global_zero:
            return  # the other ranks may get a signal from the terminal and from rank 0
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(signum)

    def _any_rank_interrupted(self, trainer: Trainer) -> bool:
        """Called by all ranks after the same step."""
        return bool(trainer.strategy.reduce_boolean_decision(self.signum is not None, all=False))

    def _interrupt(self, where: str) -> None:
        raise Interrupted(self.signum or signal.SIGTERM, where)


def raise_if_interrupted(trainer: Trainer) -> None:
    """Raise :class:`Interrupted` where the trainer has a :class:`RunCheckpoint` that noted a signal."""
    for callback in callbacks_of(trainer):
        if isinstance(callback, RunCheckpoint):
            callback.raise_if_interrupted()
