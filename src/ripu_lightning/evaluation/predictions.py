"""Writes the predictions of a test run as PNG files, for viewers or for a test server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.data.pools import EvalBatch
from ripu_lightning.errors import InvalidArgument, require_choice
from ripu_lightning.labels.export import MaskNumbers, write_masks
from ripu_lightning.mask_values import Values, file_ids

Format = Literal["palette", "label_ids"]


class SavePredictions(Callback):
    """Writes one PNG for each image, at the label's size; every rank writes the images that it predicted.

    The file says which numbers it holds: readers of labels refuse class indices that are not the file ids too.

    Args:
        folder: created if missing.
        dataset: the predicted images: gives the classes and the ids.
        form: ``palette`` writes ``<folder>/<image id>.png`` with class indices in 8 bits and the colours of the
            classes; a ``/`` in an id makes subfolders. ``label_ids`` writes ``<folder>/<last part of the id>.png`` with
            the data set's own label ids in grey, as the Cityscapes test server expects them; of a class with several
            ids, the first is written.

    Raises:
        InvalidArgument: another form, a class without a label id, or two images that would have one file name.
    """

    def __init__(self, folder: str | Path, dataset: SegmentationDataset, form: Format = "palette") -> None:
        require_choice("SavePredictions", "form", form, get_args(Format))
        self.folder, self.form, self.classes = Path(folder), form, dataset.classes
        self.names = {image_id: image_id for image_id in dataset.ids}
        self.numbers: MaskNumbers = np.arange(256, dtype=np.uint8)
        self.palette: UInt8Array | None = dataset.classes.palette()
        same = [ids[:1] for ids in dataset.classes.ids] == [(index,) for index in range(len(dataset.classes))]
        self.values: Values = "id" if same else "index"
        if form == "label_ids":
            self.names, self.numbers, self.palette, self.values = _flat(dataset.ids), _first_ids(dataset), None, "id"

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
            self.names[image_id]: self.numbers[predicted.to(torch.uint8).cpu().numpy()]
            for image_id, predicted in zip(batch.ids, outputs["predictions"], strict=True)
        }
        classes = self.classes if self.values == "id" else None
        write_masks(self.folder, masks, masks.__getitem__, self.values, palette=self.palette, classes=classes)


def _flat(ids: Sequence[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for image_id in ids:
        name = image_id.rsplit("/", 1)[-1]
        if name in taken:
            both = f"{taken[name]!r} and {image_id!r} would both be written as {name}.png"
            raise InvalidArgument("SavePredictions", "form", f"is 'label_ids', but {both}; use 'palette'")
        taken[name], names[image_id] = image_id, name
    return names


def _first_ids(dataset: SegmentationDataset) -> MaskNumbers:
    without = [name for name, ids in zip(dataset.classes.names, dataset.classes.ids, strict=True) if not ids]
    if without:
        problem = f"is 'label_ids', but class {without[0]!r} has no label id in its class map; use 'palette'"
        raise InvalidArgument("SavePredictions", "form", problem)
    return file_ids(dataset.classes)
