"""What loggers need beyond numbers: pictures, and in W&B the rounds and the labelled pixels as axes of their own."""

from collections.abc import Iterable, Sequence
from typing import Any

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from ripu_lightning.data.dataset import UInt8Array

ROUND, PIXELS, BY_PIXELS = "active/round", "active/pixels", "active/by_pixels/miou"


def wandb_runs(loggers: Iterable[Logger]) -> list[Any]:
    """The W&B runs among the loggers, on rank zero; dummies elsewhere."""
    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]


def define_axes(loggers: Iterable[Logger], names: Iterable[str]) -> None:
    """In W&B, plot the metrics of these names over the round, ``BY_PIXELS`` over the labelled pixels.

    Call it before they are logged; again does no harm, and neither do ranks above zero. Other loggers ignore it.
    """
    names = [name for name in names if name != ROUND]
    for run in wandb_runs(loggers):
        # WandbLogger binds "*" to the trainer's step. Which of two matching patterns wins is undefined, so that
        # "active/*" would work for some names only. A full name beats every pattern.
        run.define_metric(ROUND)
        for name in names:
            run.define_metric(name, step_metric=PIXELS if name == BY_PIXELS else ROUND)


def log_media(loggers: Sequence[Logger], key: str, media: Any, round_number: int, step: int) -> None:
    """Log one of W&B's own media (a picture with masks, a table) over the round; other loggers ignore it."""
    define_axes(loggers, [key])
    for run in wandb_runs(loggers):
        # One row for both: WandbLogger.log_image and log_table would log it without its round.
        run.log({key: media, ROUND: round_number, "trainer/global_step": step})


def log_picture(loggers: Sequence[Logger], key: str, picture: UInt8Array, round_number: int, step: int) -> None:
    """Log a picture with every logger that takes pictures; call it on rank zero.

    Args:
        loggers: of the trainer.
        key: the same in every round, so that the rounds form a series.
        picture: ``(H, W, 3)`` RGB.
        round_number: W&B's axis, see :func:`define_axes`; in MLflow the name of the file.
        step: the trainer's step: TensorBoard's axis.
    """
    if wandb_runs(loggers):
        import wandb

        log_media(loggers, key, [wandb.Image(picture)], round_number, step)
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(key, picture, step, dataformats="HWC")
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, picture, artifact_file=f"{key}/round_{round_number}.png")
