"""What loggers need beyond numbers: pictures, and in W&B the rounds as an axis of their own."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

ROUND = "active/round"


def define_round_axis(loggers: Iterable[Logger], names: Iterable[str]) -> None:
    """In W&B, plot the metrics of these names over the round; other loggers are left alone.

    Call it before they are logged; again does no harm, and neither do ranks above zero.
    """
    names = [name for name in names if name != ROUND]
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            # WandbLogger binds "*" to the trainer's step, and which of two patterns that fit wins is left to
            # chance: "active/*" holds for some names only. A name in full beats every pattern.
            logger.experiment.define_metric(ROUND)
            for name in names:
                logger.experiment.define_metric(name, step_metric=ROUND)


def log_picture(loggers: Sequence[Logger], name: str, path: Path, round_number: int, step: int) -> None:
    """Give a PNG to every logger that takes pictures, as ``pictures/NAME``; call it on rank zero.

    Args:
        loggers: of the trainer.
        name: the same in every round, so that the rounds form a series.
        path: the PNG.
        round_number: W&B's axis, see :func:`define_round_axis`.
        step: the trainer's step: TensorBoard's axis.
    """
    key = f"pictures/{name}"
    define_round_axis(loggers, [key])
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            # One row for both: WandbLogger.log_image would log the picture without its round.
            row = {key: [wandb.Image(str(path))], ROUND: round_number, "trainer/global_step": step}
            logger.experiment.log(row)
        elif isinstance(logger, TensorBoardLogger):
            picture = np.array(Image.open(path).convert("RGB"))
            logger.experiment.add_image(key, picture, step, dataformats="HWC")
