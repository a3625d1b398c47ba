"""``last.ckpt``: where a run goes on. Written whole or not at all, often enough, and read as data alone."""

import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from ripu_lightning.files import explained, replacing
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.training.interruption import Interruption

_NOTE = "the checkpoint before and all bought labels are safe"


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's way of keeping checkpoints, but never half a file: a kill or a full disk leaves the old one.

    Its own moves a temporary file into place; where that lies on another disk, the move is a copy that can be cut off.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` in the place of ``path``. Raises UserError where the disk refuses."""
        path = Path(path)
        with explained(path, _NOTE):
            path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()  # torch would hide what the disk says behind an error of its own
        torch.save(checkpoint, buffer)
        with replacing(path, _NOTE) as file, explained(path, _NOTE):
            file.write(buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read ``path`` into main memory; nothing in it is executed. Raises UserError naming a damaged file."""
        return dict(read_entries(Path(path), "checkpoint"))


class RunCheckpoint(ModelCheckpoint):
    """Keeps one checkpoint of a run: of the end of its last stage, or of a later step inside the next one.

    Inside a stage it is written every so many steps, one step before the stage's end (validation and the round that
    come then may take long), and where the run is interrupted.

    Args:
        folder: made if missing.
        every: steps between checkpoints inside a stage.
        interruption: tells that the run is to end.
    """

    def __init__(self, folder: Path, every: int, interruption: Interruption) -> None:
        super().__init__(folder, filename="last", enable_version_counter=False)
        self.path, self.every, self.interruption = folder / "last.ckpt", every, interruption

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """As Lightning's, which would warn of a folder that a run goes on in."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*exists and is not empty")
            super().setup(trainer, pl_module, stage)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Inside a stage. Raises Interrupted, where a signal asked for it."""
        left = int(trainer.num_training_batches) - batch_idx - 1
        asked = self.interruption.agreed(trainer)
        # After a stage's last step Lightning takes a checkpoint for one of a whole stage: a round would be left out.
        if left and (asked or left == 1 or trainer.global_step % self.every == 0):
            trainer.save_checkpoint(self.path, weights_only=False)
        if left and asked:
            self.interruption.end_run(f"after step {trainer.global_step}, with a checkpoint")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A stage and its round are over. Raises Interrupted, where a signal asked for it."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.interruption.agreed(trainer):
            self.interruption.end_run(f"after step {trainer.global_step}, with a checkpoint")

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a run's folder may be moved."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
