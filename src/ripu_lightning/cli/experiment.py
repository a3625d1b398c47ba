"""One experiment from a valid config: build, train round by round, report."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy

from ripu_lightning.annotation import Waiting
from ripu_lightning.cli.build import build, build_annotator, build_module, build_strategy, plain
from ripu_lightning.cli.checkpoints import load_checkpoint
from ripu_lightning.cli.initial import initial_weights, load_initial
from ripu_lightning.cli.loggers import build_loggers, opened
from ripu_lightning.cli.starts import share_start
from ripu_lightning.errors import UserError
from ripu_lightning.report.files import RunFiles
from ripu_lightning.report.pictures import RoundPictures
from ripu_lightning.report.result import decisive, reached_with
from ripu_lightning.report.round_logs import RoundLogs
from ripu_lightning.report.table import print_rounds
from ripu_lightning.training import ActiveLearningLoop, SegmentationModule, Stages
from ripu_lightning.training.checkpoints import RunCheckpoint, WholeCheckpoints
from ripu_lightning.training.interruption import Interrupted, Interruption
from ripu_lightning.training.loop import check_trainer
from ripu_lightning.training.passes import require_dropout
from ripu_lightning.training.ranks import MissingRanks
from ripu_lightning.untrusted import read_config

COMMUNICATION = re.compile(r"gloo|NCCL|ProcessGroup|Connection (closed|reset)|[Tt]imed out|monitoredBarrier|TCPStore")
"""What the messages of torch have in common where a process lost the others."""


def run_experiment(config: DictConfig) -> None:
    """Train as configured and leave a run folder; a folder whose checkpoint exists goes on from there.

    Raises:
        Waiting: an annotator needs time; all there is so far is kept.
        Interrupted: a signal asked the run to end; likewise.
        UserError: a mistake in the config or the data, before any training.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    config.output = str(folder)  # one and the same on all ranks, whatever time each of them started
    if (folder / "config.yaml").is_file():
        refuse_other_config(read_config(folder / "config.yaml"), plain(config), str(folder))
    seed_everything(config.seed, workers=True, verbose=False)
    budget, strategy = build(config, "budget"), build_strategy(config)
    stages = Stages(config.schedule.steps, config.schedule.first_round, config.schedule.interval, budget.rounds)
    datamodule = build(config, "data")
    if budget.rounds and datamodule.target_labels == "all":
        raise UserError("data.target_labels: all labels are used already; add budget=none, as there is nothing to buy")
    last = folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        checkpoint = load_checkpoint(last)  # a damaged one, or one of something else, is told before any work
        if checkpoint.get("global_step", 0) >= config.schedule.steps:
            refuse_other_config(checkpoint["hyper_parameters"]["config"], plain(config), str(folder), ended=True)
    started_elsewhere = bool(last.is_file() or config.initial or config.pretrain)
    module = build_module(config, datamodule, bare=started_elsewhere)
    module.losses.require(datamodule.domains)
    datamodule.domains = module.losses.images
    annotator = build_annotator(config, datamodule.target)
    twice, patience = config.parity.resize_twice, config.rank_patience
    loop = ActiveLearningLoop(strategy, budget, annotator, stages, folder / "labels", config.seed, twice, patience)
    interruption = Interruption()
    loggers = build_loggers(config, folder, strategy, budget)
    trainer = _trainer(config, folder, loop, interruption, loggers)
    check_trainer(trainer, stages)
    require_dropout(strategy, module)
    loop.check(datamodule, answers=trainer.is_global_zero)
    with opened(loggers, plain(config), folder):
        if trainer.is_global_zero:
            datamodule.check(truth=bool(budget.rounds or config.pictures or datamodule.target_labels == "all"))
        if not last.is_file():
            load_initial(module, initial_weights(config, folder))
            share_start(config, folder, trainer, module, datamodule, stages)
        if not _fit(trainer, module, datamodule, last, loop, interruption):
            return
    if trainer.is_global_zero:
        print_rounds(loop.history, per_class=config.per_class, title=module.inference.title)
        print(f"run folder: {folder}")
        if loop.waiting:
            raise Waiting(loop.waiting)


def refuse_other_config(old: Mapping[Any, Any], new: Mapping[Any, Any], folder: str, ended: bool = False) -> None:
    """Refuse to go on with a run under another config: its labels and its checkpoint belong to the first.

    Where it has ended, its figures do too: nothing is left for which another precision, for example, could be used.
    """
    before, after = (reached_with(config) if ended else decisive(config) for config in (old, new))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            raise UserError(
                f"{key}: the run in {folder} has {before.get(key)!r}, this command {after.get(key)!r}; "
                "give the first command again to go on with it, or choose another output"
            )


def _fit(
    trainer: Trainer,
    module: SegmentationModule,
    datamodule: Any,
    last: Path,
    loop: ActiveLearningLoop,
    interruption: Interruption,
) -> bool:
    """Train from the checkpoint ``last``, if there is one; False where rank 0 tells that the run was interrupted."""
    start = str(last) if last.is_file() else None
    try:
        interruption.lead(trainer)
        with interruption:
            trainer.fit(module, datamodule=datamodule, ckpt_path=start, weights_only=True)
    except (Exception, SystemExit) as error:
        asked = isinstance(error, Interrupted) or interruption.signum is not None
        if asked and not trainer.is_global_zero:
            return False  # and not with an exit code, or rank 0 would be killed while it still writes
        # What the signal did to the other ranks; but a full disk, for example, is told.
        if asked and (isinstance(error, MissingRanks) or not isinstance(error, UserError)):
            raise Interrupted(interruption.signum or SIGTERM, "at once, after its last checkpoint") from error
        if isinstance(error, RuntimeError) and trainer.world_size > 1 and COMMUNICATION.search(str(error)):
            loop.require_ranks()
        raise
    return True


def _trainer(
    config: DictConfig,
    folder: Path,
    loop: ActiveLearningLoop,
    interruption: Interruption,
    loggers: list[Logger],
) -> Trainer:
    logs = RoundLogs(loop, folder / "checkpoints" / "last.ckpt", plain(config))
    callbacks: list[Callback] = [interruption, loop, RunFiles(folder, loop, plain(config)), logs]
    if config.pictures:
        callbacks.append(RoundPictures(folder / "pictures", config.pictures, config.strategy.get("radius", 1)))
    if config.trainer.enable_progress_bar:
        callbacks.append(TQDMProgressBar(leave=True))
    callbacks.append(RunCheckpoint(folder / "checkpoints", config.checkpoint_every, interruption))
    trainer: Trainer = build(
        config,
        "trainer",
        strategy=_processes(config),
        callbacks=callbacks,
        logger=loggers,
        default_root_dir=str(folder),
        max_epochs=len(loop.stages.spans),
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=-1 if loop.stages.early else 0,
        enable_model_summary=False,
    )
    trainer.strategy.checkpoint_io = WholeCheckpoints()
    return trainer


def _processes(config: DictConfig) -> Any:
    """Lightning's strategy; where it would choose DDP, one that waits as long as the run's ranks do."""
    chosen, devices = config.trainer.strategy, config.trainer.devices
    count = len(devices) if isinstance(devices, ListConfig) else devices
    if count in {-1, "-1", "auto"}:
        count = torch.cuda.device_count() if _gpus(config) else 1
    if chosen in ("auto", "ddp") and (config.trainer.num_nodes > 1 or count not in {0, 1, "1"}):
        # Processes that start together need a while to meet, however little they wait for one another later.
        patience = timedelta(minutes=max(config.rank_patience, 1))
        # Without the search for unused parameters DDP orders its buckets anew after a process's first step: with three
        # ranks or more, a run that goes on would add up gradients in another order than one that was never stopped.
        # On GPUs, where bits differ anyway, it would only cost time.
        return DDPStrategy(timeout=patience, find_unused_parameters=not _gpus(config))
    return build(config.trainer, "strategy") if OmegaConf.is_dict(chosen) else chosen


def _gpus(config: DictConfig) -> bool:
    return torch.cuda.is_available() and config.trainer.accelerator != "cpu"
