"""Pictures of a run: for a few target images, after every stage, the prediction and the queried pixels so far."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError, require_integer
from ripu_lightning.evaluation import metric_names
from ripu_lightning.files import write_bytes
from ripu_lightning.report.image_panels import class_panel, draw_panels, image_panel, map_panel, queried_panel
from ripu_lightning.report.image_snapshot import ImageSnapshot, take_snapshot
from ripu_lightning.report.json_records import LABELS_SAFE
from ripu_lightning.report.matplotlib_charts import figure_file
from ripu_lightning.report.round_logs import log_snapshot
from ripu_lightning.training.lightning_internals import callbacks_of
from ripu_lightning.training.loop import ActiveLearningLoop
from ripu_lightning.training.pool_inference import PoolInference


class RoundPictures(Callback):
    """After the stage that trained on R rounds, saves the snapshot of each pictured image, draws it and logs it.

    The drawing is ``<folder>/round_R/<image id>.png``. Place the callback after the ActiveLearningLoop, so that the
    queries at the stage's end are seen next to the prediction that selected them. Only rank zero works, and without
    any collective.

    Args:
        folder: made if missing; an image id's ``/`` become ``__``.
        count: number of target images, spread evenly over the data set.
        radius: of the squares in the maps of impurity and uncertainty, in pixels.

    Raises:
        InvalidArgument: a negative count or radius.
    """

    def __init__(self, folder: str | Path, count: int = 3, radius: int = 1) -> None:
        require_integer("RoundPictures", "count", count)
        require_integer("RoundPictures", "radius", radius)
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
        loop = next((each for each in callbacks_of(trainer) if isinstance(each, ActiveLearningLoop)), None)
        if loop is None:
            raise UserError("RoundPictures needs an ActiveLearningLoop before it among the trainer's callbacks")
        stage = 0 if before else trainer.current_epoch + loop.schedule.initial_rounds
        pool_inference = PoolInference(
            trainer, pl_module, loop.strategy, stage + 1, loop.seed, loop.resize_twice, loop.window
        )
        due = stage < loop.budget.rounds
        # A resumed run may find a round that another process has scored: its statistics are not gathered again.
        learns = loop.strategy.requires & {"source_statistics", "pool_statistics"}
        score = due and not (learns and loop.scored != pool_inference.round)
        radius = self.radius if due else None
        indices = spread(self.count, len(datamodule.target))
        shown = metric_names([datamodule.target.ids[index].replace("/", "__") for index in indices])
        for index in indices:
            snapshot = take_snapshot(pool_inference, datamodule, loop.store, index, score=score, radius=radius)
            snapshot.save(self.folder)
            path = self.folder / f"round_{stage}" / f"{snapshot.name}.png"
            write_bytes(path, figure_file(draw_snapshot(snapshot, datamodule.classes)), LABELS_SAFE)
            if not all(isinstance(logger, CSVLogger) for logger in trainer.loggers):
                drawn = np.array(Image.open(path).convert("RGB"))
                name = shown[snapshot.name]
                log_snapshot(trainer.loggers, snapshot, name, drawn, datamodule.classes, trainer.global_step)


def spread(count: int, total: int) -> list[int]:
    """Up to ``count`` positions, evenly spread over ``range(total)``.

    >>> spread(3, 10), spread(5, 2)
    ([1, 5, 8], [0, 1])
    """
    count = min(count, total)
    return [(2 * position + 1) * total // (2 * count) for position in range(count)]


def draw_snapshot(snapshot: ImageSnapshot, classes: ClassMap) -> Figure:
    """Image, truth (if known), prediction and queried pixels; below them the maps of the next round, if any."""
    rounds, stage = int(snapshot.query_round.max()), snapshot.stage
    share = f"{100 * (snapshot.query_round > 0).mean():.2g} %"
    queried = f"queried: {share} in {rounds} round{'s' * (rounds != 1)}" if rounds else "nothing queried"
    panels = {"image": image_panel(snapshot.image)}
    if snapshot.truth is not None:
        panels["truth"] = class_panel(snapshot.truth, classes)
    panels[f"prediction after {stage} round{'s' * (stage != 1)}"] = class_panel(snapshot.prediction, classes)
    panels[queried] = queried_panel(snapshot.image, snapshot.labels, snapshot.query_round, stage + 1, classes)
    return draw_panels([panels, dict(map_panel(kind, values) for kind, values in snapshot.maps.items())], classes)
