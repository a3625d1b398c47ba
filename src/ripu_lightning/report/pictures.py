"""Pictures of a run: for a few target images, after every stage, the prediction and what was bought so far."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer

from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.networks.resize import resize_logits
from ripu_lightning.report.drawing import bought_panel, class_panel, draw_panels, image_panel
from ripu_lightning.training.loggers import log_picture
from ripu_lightning.training.modes import evaluating
from ripu_lightning.training.passes import logits_of


class RoundPictures(Callback):
    """Saves ``<folder>/round_R/<image id>.png`` after the stage that trained on R rounds, and logs it.

    Place it after the ActiveLearningLoop, so that what the stage's end bought is seen beside the prediction that
    asked for it. Only rank zero works, and without any collective.

    Args:
        folder: made if missing; an image id's ``/`` become ``__``.
        count: number of target images, spread evenly over the data set.

    Raises:
        UserError: a negative count.
    """

    def __init__(self, folder: str | Path, count: int = 3) -> None:
        if count < 0:
            raise UserError(f"pictures.count: expected 0 or more, got {count}")
        self.folder, self.count = Path(folder), count

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what the run starts from, where the first round comes before the first step."""
        self._draw(trainer, pl_module, before=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the pictures of the stage that ended."""
        self._draw(trainer, pl_module, before=False)

    def _draw(self, trainer: Trainer, pl_module: LightningModule, before: bool) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or not isinstance(datamodule, ActiveDataModule):
            return
        stage = 0 if before else trainer.current_epoch + datamodule.early
        folder = self.folder / f"round_{stage}"
        folder.mkdir(parents=True, exist_ok=True)
        for index in spread(self.count, len(datamodule.target)):
            predicted = predict(trainer, pl_module, datamodule, index)
            name = datamodule.target.ids[index].replace("/", "__")
            path = folder / f"{name}.png"
            draw_round(datamodule, index, predicted, stage).savefig(path, format="png")
            log_picture(trainer.loggers, name, path, stage, trainer.global_step)


def spread(count: int, total: int) -> list[int]:
    """Up to ``count`` positions, evenly spread over ``range(total)``.

    >>> spread(3, 10), spread(5, 2)
    ([1, 5, 8], [0, 1])
    """
    count = min(count, total)
    return [(2 * position + 1) * total // (2 * count) for position in range(count)]


def predict(trainer: Trainer, module: LightningModule, datamodule: ActiveDataModule, index: int) -> UInt8Array:
    """Class indices ``(H, W)`` for one target image at its own size, as acquisition sees it."""
    batch = datamodule.pool_dataloader().dataset[index].to(module.device)
    with evaluating(module), trainer.precision_plugin.forward_context():
        logits = logits_of(module(trainer.precision_plugin.convert_input(batch.image)))
    classes: UInt8Array = resize_logits(logits, batch.sizes[0]).argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
    return classes


def draw_round(datamodule: ActiveDataModule, index: int, predicted: UInt8Array, stage: int) -> Figure:
    """One target image after a stage: image, truth (if known), prediction ``(H, W)`` and what was bought so far."""
    target, classes = datamodule.target, datamodule.classes
    image, image_id = target.image(index), target.ids[index]
    labels, asked = _bought(datamodule.store, image_id, target.size(index), stage + 1)
    rounds = int(asked.max())
    share = f"{100 * (asked > 0).mean():.2g} %"
    bought = f"bought: {share} in {rounds} round{'s' * (rounds != 1)}" if rounds else "nothing bought"
    panels = {"image": image_panel(image)}
    if target.has_labels:
        panels["truth"] = class_panel(target.label(index), classes)
    panels[f"prediction after {stage} round{'s' * (stage != 1)}"] = class_panel(predicted, classes)
    panels[bought] = bought_panel(image, labels, asked, stage + 1, classes)
    return draw_panels(panels, classes)


def _bought(
    store: LabelStore | None, image_id: str, size: tuple[int, int], through: int
) -> tuple[UInt8Array, npt.NDArray[np.uint16]]:
    """Labels and the round in which each was asked; later rounds than ``through`` (of a run resumed) do not show."""
    if store is None:
        return np.full(size, IGNORE, dtype=np.uint8), np.zeros(size, dtype=np.uint16)
    asked = store.asked(image_id)
    asked[asked > through] = 0
    return store.mask(image_id), asked
