"""The Trainer arguments on which the active-learning loop relies, and why others are refused."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import EarlyStopping, GradientAccumulationScheduler, Timer

from ripu_lightning.errors import InvalidArgument
from ripu_lightning.training.lightning_internals import batches_done, callbacks_of, replaces_samplers
from ripu_lightning.training.schedule import Schedule


def trainer_arguments(schedule: Schedule) -> dict[str, Any]:
    """The arguments with which each stage of a schedule is an epoch of its own."""
    return {
        "max_epochs": len(schedule.spans),
        # Loaders are built again for each stage: its labels are used from its first step.
        "reload_dataloaders_every_n_epochs": 1,
        # A datamodule shards by itself; Lightning's samplers pad, and count images twice.
        "use_distributed_sampler": False,
        # The round before the first step comes after one validation, which measures the initial weights.
        "num_sanity_val_steps": -1 if schedule.initial_rounds else 0,
    }


def check_trainer(trainer: Trainer, schedule: Schedule) -> None:
    """Refuse a trainer with which a stage would not be one complete epoch.

    Raises:
        InvalidArgument: naming the argument of the Trainer, and why.
    """
    epochs = len(schedule.spans)
    if trainer.max_epochs != epochs:
        _refuse("max_epochs", f"must be {epochs}, one a stage, got {trainer.max_epochs}")
    if getattr(trainer, "reload_dataloaders_every_n_epochs", 0) != 1:
        _refuse("reload_dataloaders_every_n_epochs", "must be 1, because new labels need new loaders")
    if trainer.world_size > 1 and replaces_samplers(trainer):
        _refuse("use_distributed_sampler", "must be False, because Lightning's samplers pad the pool")
    if schedule.initial_rounds and trainer.num_sanity_val_steps != float("inf"):
        _refuse("num_sanity_val_steps", "must be -1, because the first round comes before the first step")
    if trainer.min_epochs:  # 1 where min_steps is given
        _refuse("min_epochs", "and min_steps must be left out, because a run that waits for answers stops early")
    if trainer.max_steps != -1:
        _refuse("max_steps", "must be left out, because the schedule says how many steps there are")
    if getattr(trainer, "fast_dev_run", False) or getattr(trainer, "overfit_batches", 0):
        _refuse("fast_dev_run", "and overfit_batches must be left out, because they replace the stages")
    if trainer.check_val_every_n_epoch != 1 or trainer.val_check_interval != 1.0:
        _refuse("check_val_every_n_epoch", "and val_check_interval must be left out: a stage is validated at its end")
    for callback in callbacks_of(trainer):
        if isinstance(callback, GradientAccumulationScheduler):
            _refuse("callbacks", "must not change accumulate_grad_batches during the run")
        if isinstance(callback, (EarlyStopping, Timer)):
            name = "max_time" if isinstance(callback, Timer) else "callbacks"
            _refuse(
                name, f"must not stop the run early ({type(callback).__name__}), because its rounds would be left out"
            )


def check_accumulation(trainer: Trainer, schedule: Schedule, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to resume inside a stage with another number of batches a step: Lightning counts batches.

    Raises:
        InvalidArgument: naming the number of the run that wrote the checkpoint.
    """
    step = int(checkpoint["global_step"])
    for start, stop in schedule.spans:
        if start < step < stop and batches_done(checkpoint) != (step - start) * trainer.accumulate_grad_batches:
            problem = f"must be {batches_done(checkpoint) // (step - start)}, as in the run that wrote the checkpoint"
            raise InvalidArgument("Trainer", "accumulate_grad_batches", problem)


def _refuse(argument: str, problem: str) -> None:
    raise InvalidArgument("Trainer", argument, f"{problem}; see ActiveLearningLoop.trainer_arguments")
