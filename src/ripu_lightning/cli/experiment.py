"""One experiment from a valid config: build, train round by round, report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import WandbLogger

from ripu_lightning.annotation import Waiting
from ripu_lightning.cli.build import build, build_annotator, build_module, build_strategy, plain
from ripu_lightning.cli.initial import initial_weights, load_initial
from ripu_lightning.errors import UserError
from ripu_lightning.report.files import RunFiles
from ripu_lightning.report.pictures import RoundPictures
from ripu_lightning.report.result import decisive
from ripu_lightning.report.table import print_rounds
from ripu_lightning.training import ActiveLearningLoop, Stages


def run_experiment(config: DictConfig) -> None:
    """Train as configured and leave a run folder; a folder whose checkpoint exists goes on from there.

    Raises:
        Waiting: an annotator needs time; all there is so far is kept.
        UserError: a mistake in the config or the data, before any training.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    config.output = str(folder)  # one and the same on all ranks, whatever time each of them started
    if (folder / "config.yaml").is_file():
        refuse_other_config(plain(OmegaConf.load(folder / "config.yaml")), plain(config), str(folder))
    seed_everything(config.seed, workers=True, verbose=False)
    budget, strategy = build(config, "budget"), build_strategy(config)
    stages = Stages(config.schedule.steps, config.schedule.first_round, config.schedule.interval, budget.rounds)
    datamodule = build(config, "data")
    if budget.rounds and datamodule.target_labels == "all":
        raise UserError("data.target_labels: all labels are used already; add budget=none, as there is nothing to buy")
    last = folder / "checkpoints" / "last.ckpt"
    started_elsewhere = bool(last.is_file() or config.initial or config.pretrain)
    module = build_module(config, datamodule, bare=started_elsewhere)
    module.losses.require(datamodule.domains)
    datamodule.domains = module.losses.images
    annotator = build_annotator(config, datamodule.target)
    twice = config.parity.resize_twice
    loop = ActiveLearningLoop(strategy, budget, annotator, stages, folder / "labels", config.seed, twice)
    loop.check(datamodule)
    trainer = _trainer(config, folder, loop, len(stages.spans))
    if trainer.is_global_zero:
        datamodule.check(
            trainer.world_size,
            truth=bool(budget.rounds or config.pictures or datamodule.target_labels == "all"),
        )
    if not last.is_file():
        load_initial(module, initial_weights(config, folder))
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    finally:
        _close_loggers(trainer)
    if trainer.is_global_zero:
        print_rounds(loop.history, per_class=config.per_class, title=module.inference.title)
        print(f"run folder: {folder}")
        if loop.waiting:
            raise Waiting(loop.waiting)


def refuse_other_config(old: Mapping[Any, Any], new: Mapping[Any, Any], folder: str) -> None:
    """Refuse to go on with a run under another config: its labels and its checkpoint belong to the first."""
    before, after = decisive(old), decisive(new)
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            raise UserError(
                f"{key}: the run in {folder} has {before.get(key)!r}, this command {after.get(key)!r}; "
                "give the first command again to go on with it, or choose another output"
            )


def _trainer(config: DictConfig, folder: Path, loop: ActiveLearningLoop, epochs: int) -> Trainer:
    callbacks: list[Callback] = [loop, RunFiles(folder, loop, plain(config))]
    if config.pictures:
        callbacks.append(RoundPictures(folder / "pictures", config.pictures))
    if config.trainer.enable_progress_bar:
        callbacks.append(TQDMProgressBar(leave=True))
    callbacks.append(ModelCheckpoint(folder / "checkpoints", filename="last", enable_version_counter=False))
    trainer: Trainer = build(
        config,
        "trainer",
        callbacks=callbacks,
        logger=[build(config.logger, name) for name in config.logger],
        default_root_dir=str(folder),
        max_epochs=epochs,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=-1 if loop.stages.early else 0,
        enable_model_summary=False,
    )
    return trainer


def _close_loggers(trainer: Trainer) -> None:
    # W&B uploads what is left, and a later run of the same process starts a run of its own.
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger) and trainer.is_global_zero:
            logger.experiment.finish()
