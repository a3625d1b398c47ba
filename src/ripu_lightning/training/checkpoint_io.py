"""How checkpoints are written and read: completely or not at all, and without executing anything in them."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from ripu_lightning.files import explained, replacing
from ripu_lightning.networks.weights import read_entries

_NOTE = "the previous checkpoint and all labels are safe"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint plugin, but a killed process or a full disk leaves the previous checkpoint as it was.

    Lightning's own plugin moves a temporary file into place. Where that file is on another disk, the move is a copy,
    which can be interrupted.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Replace the file ``path`` by ``checkpoint``. Raises UserError where the disk refuses."""
        path = Path(path)
        with explained(path, _NOTE):
            path.parent.mkdir(parents=True, exist_ok=True)
        buffer = BytesIO()  # written to the file directly, torch would hide what the disk reports
        torch.save(checkpoint, buffer)
        with replacing(path, _NOTE) as file, explained(path, _NOTE):
            file.write(buffer.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read ``path`` into main memory. Raises UserError that names a damaged file."""
        return dict(read_entries(Path(path), "checkpoint"))
