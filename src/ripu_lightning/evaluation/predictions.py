"""Writes the predictions of a test run as PNG files."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.data.pools import EvalBatch
from ripu_lightning.labels.png import write_masks


class SavePredictions(Callback):
    """Writes ``<folder>/<image id>.png``, 8 bits a pixel: class indices, shown by viewers in their colours.

    Every rank writes the images it predicted; an id's ``/`` become subfolders.

    Args:
        folder: made if missing.
        palette: ``(256, 3)`` uint8, see :meth:`ClassMap.palette`.
    """

    def __init__(self, folder: str | Path, palette: UInt8Array) -> None:
        self.folder, self.palette = Path(folder), palette

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EvalBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one batch; ``outputs["predictions"]`` are its predictions, ``(H, W)`` integers each.

        Raises:
            UserError: an image id that would leave the folder, or a file that cannot be written.
        """
        masks = {
            image_id: predicted.to(torch.uint8).cpu().numpy()
            for image_id, predicted in zip(batch.ids, outputs["predictions"], strict=True)
        }
        write_masks(self.folder, masks, masks.__getitem__, self.palette)
