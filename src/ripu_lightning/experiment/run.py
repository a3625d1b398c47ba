"""One experiment: build it from its config, train round by round, and return what came out."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from signal import SIGTERM
from typing import Any, cast

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.strategies import DDPStrategy

from ripu_lightning.annotation import Annotator
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.build import (
    build,
    build_annotator,
    build_module,
    build_schedule,
    build_strategy,
    build_trainer,
)
from ripu_lightning.experiment.checkpoints import load_checkpoint
from ripu_lightning.experiment.complete_runs import mark_complete
from ripu_lightning.experiment.config_keys import errors_name_keys, require_values
from ripu_lightning.experiment.early_checks import PARTS, build_data, check_values
from ripu_lightning.experiment.initial import FirstStep, initial_weights, load_initial, shared_overrides
from ripu_lightning.experiment.loggers import build_loggers, opened
from ripu_lightning.experiment.output_folders import require_run_folder
from ripu_lightning.experiment.progress_bar import RunProgressBar
from ripu_lightning.experiment.recorded_config import data_sets, recorded, with_class_names
from ripu_lightning.experiment.warmup_key import share_warmup
from ripu_lightning.first_rank import leads
from ripu_lightning.report.data_record import NAME as DATA
from ripu_lightning.report.data_record import Record, record_of, refuse_other_data
from ripu_lightning.report.result import decisive, reached_with
from ripu_lightning.report.round_logs import RoundLogs
from ripu_lightning.report.round_pictures import RoundPictures
from ripu_lightning.report.run_files import RunFiles
from ripu_lightning.training import ActiveLearningLoop, RoundRecord, SegmentationModule
from ripu_lightning.training.batchnorm_check import require_batch
from ripu_lightning.training.history import summary
from ripu_lightning.training.pool_inference import require_dropout
from ripu_lightning.training.ranks import MissingRanks
from ripu_lightning.training.run_checkpoint import Interrupted, RunCheckpoint
from ripu_lightning.training.trainer_check import check_trainer
from ripu_lightning.untrusted import read_config

COMMUNICATION = re.compile(r"gloo|NCCL|ProcessGroup|Connection (closed|reset)|[Tt]imed out|monitoredBarrier|TCPStore")
"""What the messages of torch have in common where a process lost the others."""
DOMAINS = ("source", "target")


@dataclass(frozen=True)
class RunResult:
    """What a run has reached.

    Attributes:
        history: one record a stage, from the stage before the first round on.
        figures: ``miou``, ``best_miou``, ``area_under_curve``, ``pixels`` and ``share``, see
            :func:`~ripu_lightning.training.history.summary`; empty before the first record.
        folder: the run's folder, with config.yaml, rounds.csv, curve.png, result.json and ledger.json.
        checkpoint: the last checkpoint.
        labels: the label store.
        pending: where answers are expected, if the run ended to wait for them: call ``run_experiment`` again once they
            are there. None for a run that is complete.
    """

    history: list[RoundRecord]
    figures: dict[str, float]
    folder: Path
    checkpoint: Path
    labels: Path
    pending: str | None = None


def run_experiment(
    config: Mapping[str, Any] | Sequence[str], folder: str | Path, first_step: FirstStep | None = None
) -> RunResult:
    """Train an experiment and leave a run folder; a folder with a checkpoint resumes from it.

    It can be called several times in one process; it neither reads nor leaves global state of Hydra::

        result = run_experiment(["experiment=demo", "seed=1"], "runs/demo_1")
        print(result.figures["miou"])

    The override ``trainer.enable_progress_bar=false`` switches the progress bars of training and acquisition off.

    Args:
        config: a composed config (:func:`ripu_lightning.compose`) or plain containers of the same keys, or the list of
            overrides to compose it from, as on the command line.
        folder: the run's folder; made if missing. It takes the place of the config's ``output``.
        first_step: how to train the experiment of ``pretrain``; by default in this process, if ``config`` is a list of
            overrides.

    Raises:
        AnswersPending: nothing can be done before a person's answers are there.
        Interrupted: a signal ended the run; call it again to resume.
        UserError: a mistake in the config or the data; before any training, if possible.
    """
    if not isinstance(config, Mapping):
        from ripu_lightning.cli.compose import compose  # the only use of Hydra, for those who give overrides

        first_step, config = first_step or _in_this_process(config), compose(config)
    content = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else config
    chosen = OmegaConf.create(cast(dict[str, Any], content))
    folder = Path(folder).absolute()
    chosen.output = str(folder)
    require_values(chosen)
    with errors_name_keys(chosen):
        return _run(chosen, folder, first_step)


def _in_this_process(overrides: Sequence[str]) -> FirstStep:
    def train(experiment: str, folder: Path) -> None:
        run_experiment([f"experiment={experiment}", *shared_overrides(overrides)], folder)

    return train


def _run(config: DictConfig, folder: Path, first_step: FirstStep | None) -> RunResult:
    settings, last = recorded(config), folder / "checkpoints" / "last.ckpt"
    check_values(config)
    _require_same_run(folder, settings, config.schedule.steps)
    seed_everything(config.seed, workers=True, verbose=False)
    budget, strategy = build(config, "budget"), build_strategy(config)
    schedule, datamodule = build_schedule(config, budget.rounds), build_data(config)
    module = build_module(config, datamodule, bare=bool(last.is_file() or config.initial or config.pretrain))
    _require_trainable(config, module, datamodule)
    datamodule.domains = module.losses.images
    annotator = build_annotator(config, datamodule.target)
    if budget.rounds:
        _require_answerable(annotator, datamodule)
    data = _record(config, datamodule, annotator)
    refuse_other_data(folder, data, {name: part.get("root", "") for name, part in data_sets(settings)})
    loop = ActiveLearningLoop(
        strategy,
        budget,
        annotator,
        schedule,
        folder / "labels",
        config.seed,
        config.parity.resize_twice,
        config.rank_patience,
        build(config, "scoring") or None,
        config.extend_pool,
    )
    loggers = build_loggers(config, folder, strategy, budget)
    saving = RunCheckpoint(last.parent, config.checkpoint_every)
    trainer = _trainer(config, folder, loop, saving, settings, data, logger=loggers)
    check_trainer(trainer, schedule)
    require_dropout(strategy, module)
    loop.check(datamodule, answers=trainer.is_global_zero)
    with opened(loggers, with_class_names(settings), folder):
        if trainer.is_global_zero:
            datamodule.check(truth=bool(budget.rounds or config.pictures or datamodule.target_labels == "all"))
        if not last.is_file():
            load_initial(module, initial_weights(config, folder, first_step, data))
            share_warmup(config, folder, trainer, module, datamodule, schedule)
        _fit(trainer, module, datamodule, loop, saving)
    if trainer.is_global_zero and not loop.pending:
        mark_complete(config, folder)
    figures = summary(loop.history) if loop.history else {}
    return RunResult(loop.history, figures, folder, last, folder / "labels", loop.pending)


def _require_same_run(folder: Path, settings: Mapping[str, Any], steps: int) -> None:
    """Refuse a folder of another run; a damaged checkpoint is reported too, before any work."""
    require_run_folder(folder)
    if (folder / "config.yaml").is_file():
        refuse_other_config(read_config(folder / "config.yaml"), settings, folder)
    if (folder / "checkpoints" / "last.ckpt").is_file():
        checkpoint = load_checkpoint(folder / "checkpoints" / "last.ckpt")
        if checkpoint.get("global_step", 0) >= steps:
            refuse_other_config(checkpoint["hyper_parameters"]["config"], settings, folder, ended=True)


def _require_trainable(config: DictConfig, module: SegmentationModule, datamodule: ActiveDataModule) -> None:
    """Refuse losses without their data, and images that the network cannot learn from."""
    module.losses.require(datamodule.domains)
    _require_one_size(config, module.losses.domains)
    if not config.trainer.get("sync_batchnorm"):  # with it, BatchNorm sees the images of all processes
        sizes = _training_sizes(config, datamodule, module.losses.images)
        require_batch(module, config.data.get("batch_size", 2), sizes)


def _require_answerable(annotator: Annotator, datamodule: ActiveDataModule) -> None:
    """Refuse an annotator that answers from labels that are not there, or queries of what is labelled already."""
    if datamodule.target_labels == "all":
        raise UserError("data.target_labels: all labels are used already; add budget=none, as no round is left")
    if annotator.reads_truth and not datamodule.target.has_labels:
        raise UserError(
            f"annotator: {annotator.name} answers from the target's labels, but data.target has none; "
            "add annotator=files"
        )


def _require_one_size(config: DictConfig, domains: Collection[str]) -> None:
    """Refuse two sizes of images that are to pass together; own sizes of images are known at the first step only."""
    source, target = (_size_in(config, name) for name in DOMAINS)
    together = config.batchnorm == "joint" and "source" in domains and len(domains) > 1
    if together and source and target and source != target:
        raise UserError(
            f"batchnorm: joint needs images of one size, got {source} of the source and {target} of the target; "
            "set data.source_size and data.target_size (or the crops) to the same, or choose separate"
        )


def _size_in(config: DictConfig, domain: str) -> Any:
    """The size of a domain's training images as the config gives it; None for their own."""
    return config.data.get(f"{domain}_crop") or config.data.get("crop") or config.data.get(f"{domain}_size")


def _training_sizes(config: DictConfig, datamodule: Any, domains: Collection[str]) -> list[tuple[int, int]]:
    """``(H, W)`` of the training images of source and target; of images of several sizes, that of the first."""
    found = []
    for domain in DOMAINS:
        dataset = getattr(datamodule, domain, None)
        if dataset is not None and (domain == "target" or "source" in domains):
            height, width = _size_in(config, domain) or dataset.size(0)
            found.append((int(height), int(width)))
    return found


def _record(config: DictConfig, datamodule: ActiveDataModule, annotator: Annotator) -> Record:
    """What the run's data are, on its first process; empty on others. Labels that must not be read are not opened."""
    if not leads():
        return {}
    sets = {name: getattr(datamodule, name) for name in PARTS}
    without_labels = not annotator.reads_truth and config.data.get("target_labels") != "all"
    return record_of({name: each for name, each in sets.items() if each}, datamodule.cache.digests, without_labels)


def refuse_other_config(old: Mapping[Any, Any], new: Mapping[Any, Any], folder: Path, ended: bool = False) -> None:
    """Refuse to resume a run under another config: its labels and its checkpoint belong to the first.

    Once it has ended, its figures do too: no step is left that another precision, for example, could be used for.
    Where data and class maps are is left to :func:`refuse_other_data`, which compares what they contain.
    """
    before, after = (reached_with(config) if ended else decisive(config) for config in (old, new))
    if (folder / DATA).is_file():
        places = tuple(f"data.{name}.{key}." for name, _ in data_sets(new) for key in ("root", "classes"))
        for each in (before, after):
            for key in [key for key in each if f"{key}.".startswith(places)]:
                del each[key]
    # The outermost first: another seed is seen in data.seed too.
    for key in sorted(before.keys() | after.keys(), key=lambda each: (each.count("."), each)):
        if before.get(key) != after.get(key):
            raise UserError(
                f"{key}: the run in {folder} has {before.get(key)!r}, this command {after.get(key)!r}; "
                "give the first command again to resume it, or choose another output"
            )


def _fit(
    trainer: Trainer, module: SegmentationModule, datamodule: Any, loop: ActiveLearningLoop, saving: RunCheckpoint
) -> None:
    """Train, from the last checkpoint if there is one."""
    start = str(saving.path) if saving.path.is_file() else None
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=start, weights_only=True)
    except (Exception, SystemExit) as error:
        if isinstance(error, Interrupted):
            raise
        # After a signal other ranks may end first, and what this one meets then is no error; a full disk is one.
        if saving.signum is not None and (isinstance(error, MissingRanks) or not isinstance(error, UserError)):
            raise Interrupted(saving.signum or SIGTERM, "at once, after its last checkpoint") from error
        if isinstance(error, RuntimeError) and trainer.world_size > 1 and COMMUNICATION.search(str(error)):
            loop.require_ranks()
        raise


def _trainer(
    config: DictConfig,
    folder: Path,
    loop: ActiveLearningLoop,
    saving: RunCheckpoint,
    settings: Mapping[str, Any],
    data: Record,
    **arguments: Any,
) -> Trainer:
    logs = RoundLogs(loop, saving.path, with_class_names(settings))
    callbacks: list[Callback] = [loop, RunFiles(folder, loop, settings, data), logs]
    if config.pictures:
        callbacks.append(RoundPictures(folder / "pictures", config.pictures, config.strategy.get("radius", 1)))
    if config.trainer.enable_progress_bar:
        callbacks.append(RunProgressBar(leave=True))
    trainer: Trainer = build_trainer(
        config,
        folder,
        strategy=_processes(config),
        callbacks=[*callbacks, saving],  # last, so that a checkpoint holds what the others did
        enable_model_summary=False,
        **loop.trainer_arguments(),
        **arguments,
    )
    return trainer


def _processes(config: DictConfig) -> Any:
    """Lightning's strategy; if it would choose DDP, one that waits as long as the run's ranks do."""
    chosen, devices = config.trainer.strategy, config.trainer.devices
    count = len(devices) if isinstance(devices, ListConfig) else devices
    if count in {-1, "-1", "auto"}:
        count = torch.cuda.device_count() if _gpus(config) else 1
    if chosen in ("auto", "ddp") and (config.trainer.num_nodes > 1 or count not in {0, 1, "1"}):
        # Processes that start together need a while to meet, however little they wait for one another later.
        patience = timedelta(minutes=max(config.rank_patience, 1))
        # Without the search for unused parameters DDP orders its buckets anew after a process's first step: with three
        # ranks or more, a resumed run would add up gradients in another order than one that was never stopped.
        # On GPUs, where bits differ anyway, it would only cost time.
        return DDPStrategy(timeout=patience, find_unused_parameters=not _gpus(config))
    return build(config, "trainer.strategy") if OmegaConf.is_dict(chosen) else chosen


def _gpus(config: DictConfig) -> bool:
    return torch.cuda.is_available() and config.trainer.accelerator != "cpu"
