"""From the groups of an experiment's config to objects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ripu_lightning.acquisition import Strategy
from ripu_lightning.annotation import Annotator
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError, suggest
from ripu_lightning.experiment.instantiate import instantiate, locate
from ripu_lightning.experiment.recorded_config import recorded
from ripu_lightning.networks.batchnorm import require_frozen_without_eps
from ripu_lightning.training import Schedule, SegmentationModule
from ripu_lightning.training.optimization import OptimizerFactory, SchedulerFactory

RECIPE = ("head_factor", "norm_decay", "layer_decay")
"""Keys of the group optimizer that are not the optimizer's own arguments."""
PARTIAL = (
    "check_val_every_n_epoch",
    "fast_dev_run",
    "limit_test_batches",
    "limit_train_batches",
    "limit_val_batches",
    "max_steps",
    "max_time",
    "overfit_batches",
    "val_check_interval",
)
"""Arguments of Lightning's trainer that use a part of the data, or evaluate at other times than a stage's end."""


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Instantiate one group, or a part of it (``data.source``); see :func:`instantiate`."""
    return instantiate(OmegaConf.select(config, key), key, **arguments)


def build_schedule(config: DictConfig, rounds: int) -> Schedule:
    """The schedule of a config, for so many rounds. Raises UserError where it cannot be."""
    chosen = config.schedule
    schedule = Schedule(chosen.steps, chosen.first_round, chosen.interval, rounds)
    horizon = config.lr_schedule.get("horizon")
    if isinstance(horizon, int) and horizon < schedule.steps:
        raise UserError(
            f"schedule.horizon: {horizon} steps, but the run has {schedule.steps}; the learning rate would be 0 "
            "before the end"
        )
    return schedule


def build_strategy(config: DictConfig) -> Strategy:
    """The strategy of a config, with the region type and the selection rule chosen for it, if any were."""
    chosen = {group: build(config, group) for group in ("region_type", "selection_rule") if config.get(group)}
    strategy: Strategy = build(config, "strategy", **chosen)
    return strategy


def build_annotator(config: DictConfig, dataset: SegmentationDataset) -> Annotator:
    """The annotator of a config; it gets the labels of ``dataset`` only if its class says that it reads them."""
    kind = locate(config.annotator.get("_target_"), "annotator")
    reads_truth = getattr(kind, "reads_truth", None) is True
    annotator: Annotator = build(config, "annotator", dataset=dataset if reads_truth else Unlabelled(dataset))
    return annotator


def build_module(
    config: DictConfig, datamodule: ActiveDataModule, bare: bool = False, trains: bool = True
) -> SegmentationModule:
    """The LightningModule of a config, which is saved in its checkpoints.

    Args:
        config: of the run.
        datamodule: gives the class map.
        bare: leave out the network's pretrained weights, because others are loaded over them.
        trains: build the optimizer too; for an evaluation nothing of it is imported.
    """
    classes = datamodule.classes
    skipped = {"weights": None} if bare and "weights" in config.network else {}
    network, losses = build(config, "network", num_classes=len(classes), **skipped), build(config, "loss")
    training: dict[str, Any] = {}
    if trains:
        training = {key: config.optimizer[key] for key in RECIPE if key in config.optimizer}
        training["optimizer"], training["lr_scheduler"] = build_optimizer(config)
    module = SegmentationModule(
        network,
        losses,
        classes,
        batchnorm=config.batchnorm,
        average_decay=config.average_decay,
        inference=build(config, "evaluation"),
        config=recorded(config),
        seed=config.seed,
        **training,
    )
    require_frozen_without_eps(network)
    if config.get("compile"):
        for compiled in (network, *(average.module for average in module.averages)):
            _compile(compiled, config.compile)
    return module


def build_optimizer(config: DictConfig) -> tuple[OptimizerFactory, SchedulerFactory]:
    """Factories of the optimizer and of its learning-rate schedule; see :class:`SegmentationModule`.

    Raises:
        UserError: values that the optimizer or the schedule does not accept.
    """
    options = {key: value for key, value in plain(config.optimizer).items() if key not in RECIPE}
    chosen = plain(config.lr_schedule)
    trial = instantiate(options, "optimizer", params=[nn.Parameter(torch.zeros(1))])
    instantiate(chosen, "lr_schedule", optimizer=trial)  # here, and not once training has begun
    optimizer, lr_schedule = instantiate({**options, "_partial_": True}, "optimizer"), {**chosen, "_partial_": True}
    return optimizer, instantiate(lr_schedule, "lr_schedule")


def build_trainer(config: DictConfig, folder: Path, **arguments: Any) -> Any:
    """Lightning's trainer as configured.

    Raises:
        UserError: an argument that would make figures of a part of the data.
    """
    for key in PARTIAL:
        if config.trainer.get(key) is not None:
            raise UserError(
                f"trainer.{key}: leave it out, because figures are of the complete split, stages of all their steps; "
                "for a quick try take less data, or fewer schedule.steps"
            )
    options = {"default_root_dir": str(folder), "use_distributed_sampler": False, **arguments}
    return build(config, "trainer", **options)


def _compile(network: nn.Module, backend: str) -> None:
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise UserError(f"compile: no backend {backend!r}; {suggest(backend, known)}")
    network.compile(backend=backend)  # in place: the names of its weights stay


def plain(config: DictConfig | ListConfig) -> dict[str, Any]:
    """The resolved config as plain containers."""
    return dict(cast(Mapping[str, Any], OmegaConf.to_container(config, resolve=True)))


def path_in(config: Mapping[str, Any], key: str, kind: str = "file") -> Path:
    """The path that a key holds. Raises UserError if it is no text."""
    if not isinstance(config[key], str):
        raise UserError(f"{key}: expected a {kind}, got {config[key]!r}")
    return Path(config[key])
