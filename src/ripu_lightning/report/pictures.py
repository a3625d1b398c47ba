"""Pictures of a run: for a few target images, after every stage, what the network says and what was bought so far."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger

from ripu_lightning.data.classes import ClassMap
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.report.drawing import bought_panel, class_panel, draw_panels, image_panel, map_panel, save_figure
from ripu_lightning.report.round_logs import log_view
from ripu_lightning.report.views import RoundView, view_of
from ripu_lightning.training.loop import ActiveLearningLoop, callbacks_of
from ripu_lightning.training.passes import Passes


class RoundPictures(Callback):
    """After the stage that trained on R rounds, saves each picture's :class:`RoundView`, draws it and logs it.

    The drawing is ``<folder>/round_R/<image id>.png``. Place the callback after the ActiveLearningLoop, so that what
    the stage's end bought is seen beside the prediction that asked for it. Only rank zero works, and without any
    collective.

    Args:
        folder: made if missing; an image id's ``/`` become ``__``.
        count: number of target images, spread evenly over the data set.
        radius: of the squares in the maps of impurity and uncertainty, in pixels.

    Raises:
        UserError: a negative count.
    """

    def __init__(self, folder: str | Path, count: int = 3, radius: int = 1) -> None:
        if count < 0:
            raise UserError(f"pictures.count: expected 0 or more, got {count}")
        self.folder, self.count, self.radius = Path(folder), count, radius

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
        loop = _loop(trainer)
        stage = 0 if before else trainer.current_epoch + datamodule.early
        passes = Passes(trainer, pl_module, loop.strategy, stage + 1, loop.seed, loop.resize_twice)
        due = stage < loop.budget.rounds
        # In a run that goes on, a round may be there that was scored before: no statistics are gathered anew for it.
        learns = loop.strategy.needs & {"source_statistics", "pool_statistics"}
        score = due and not (learns and loop.scored != passes.round)
        for index in spread(self.count, len(datamodule.target)):
            view = view_of(passes, datamodule, index, score=score, radius=self.radius if due else None)
            view.save(self.folder)
            path = self.folder / f"round_{stage}" / f"{view.name}.png"
            save_figure(draw_view(view, datamodule.classes), path)
            if not all(isinstance(logger, CSVLogger) for logger in trainer.loggers):
                drawn = np.array(Image.open(path).convert("RGB"))
                log_view(trainer.loggers, view, drawn, datamodule.classes, trainer.global_step)


def spread(count: int, total: int) -> list[int]:
    """Up to ``count`` positions, evenly spread over ``range(total)``.

    >>> spread(3, 10), spread(5, 2)
    ([1, 5, 8], [0, 1])
    """
    count = min(count, total)
    return [(2 * position + 1) * total // (2 * count) for position in range(count)]


def draw_view(view: RoundView, classes: ClassMap) -> Figure:
    """Image, truth (if known), prediction and what was bought so far; below them the maps of the next round, if any."""
    rounds, stage = int(view.asked.max()), view.stage
    share = f"{100 * (view.asked > 0).mean():.2g} %"
    bought = f"bought: {share} in {rounds} round{'s' * (rounds != 1)}" if rounds else "nothing bought"
    panels = {"image": image_panel(view.image)}
    if view.truth is not None:
        panels["truth"] = class_panel(view.truth, classes)
    panels[f"prediction after {stage} round{'s' * (stage != 1)}"] = class_panel(view.prediction, classes)
    panels[bought] = bought_panel(view.image, view.labels, view.asked, stage + 1, classes)
    maps = [map_panel(kind, values) for kind, values in view.maps.items()]
    return draw_panels([panels, dict(maps)], classes)


def _loop(trainer: Trainer) -> ActiveLearningLoop:
    for each in callbacks_of(trainer):
        if isinstance(each, ActiveLearningLoop):
            return each
    raise UserError("RoundPictures needs an ActiveLearningLoop before it among the trainer's callbacks")
