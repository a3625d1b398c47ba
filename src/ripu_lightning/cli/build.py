"""From config groups to objects."""

from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn

from ripu_lightning.acquisition import Strategy
from ripu_lightning.annotation import Annotator
from ripu_lightning.cli.app import explain
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError, suggest
from ripu_lightning.networks.batchnorm import require_frozen_without_eps
from ripu_lightning.training import SegmentationModule


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Instantiate one group, or a part of it (``data.source``).

    An argument of the wrong kind is the user's mistake and named by its key.

    Raises:
        UserError: the group names no such class, or its values are not accepted.
    """
    try:
        return instantiate(OmegaConf.select(config, key), **arguments, _convert_="all")
    except InstantiationException as error:
        line = explain(error.__cause__ or error, "train")
        if line is not None and error.__cause__ is not None:
            raise UserError(line) from error
        reason = " ".join(str(error.__cause__ or error).split())
        raise UserError(f"{key}: {reason}") from error


def build_strategy(config: DictConfig) -> Strategy:
    """The strategy of a config, with the geometry and the selection mode chosen for it, if any were."""
    parts = {"geometry": "geometry", "selection": "mode"}
    chosen = {argument: build(config, group) for group, argument in parts.items() if config.get(group)}
    strategy: Strategy = build(config, "strategy", **chosen)
    return strategy


def build_annotator(config: DictConfig, dataset: SegmentationDataset) -> Annotator:
    """The annotator of a config; it is given the labels of ``dataset`` only where its class says that it reads them."""
    kind = build(config, "annotator", _partial_=True).func
    reads_truth = getattr(kind, "reads_truth", None) is True
    annotator: Annotator = build(config, "annotator", dataset=dataset if reads_truth else Unlabelled(dataset))
    return annotator


def build_module(config: DictConfig, datamodule: ActiveDataModule, bare: bool = False) -> SegmentationModule:
    """The LightningModule of a config; the config goes into its checkpoints.

    Args:
        config: of the whole run.
        datamodule: gives the classes.
        bare: leave out the network's pretrained weights, as others will be loaded over them.
    """
    classes = datamodule.classes.names
    skipped = {"weights": None} if bare and "weights" in config.network else {}
    network, losses = build(config, "network", num_classes=len(classes), **skipped), build(config, "loss")
    inference = build(config, "evaluation")
    try:
        module = SegmentationModule(
            network,
            losses,
            classes,
            **config.optimizer,
            horizon=config.schedule.horizon,
            inference=inference,
            subsets=datamodule.classes.subsets,
            config=plain(config),
        )
    except TypeError as error:
        raise UserError(f"optimizer: {error}") from error
    require_frozen_without_eps(network)
    if config.get("compile"):
        for compiled in (network, *([module.teacher.module] if module.teacher else [])):
            _compile(compiled, config.compile)
    return module


def _compile(network: nn.Module, backend: str) -> None:
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise UserError(f"compile: no backend {backend!r}; {suggest(backend, known)}")
    network.compile(backend=backend)  # in place: the names of its weights stay


def plain(config: DictConfig | ListConfig) -> dict[str, Any]:
    """The resolved config as plain containers, as checkpoints and files hold it."""
    container = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    return dict(container)
