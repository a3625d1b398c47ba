"""From config groups to objects."""

from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.cli.app import explain
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.training import SegmentationModule


def build(config: DictConfig, key: str, **arguments: Any) -> Any:
    """Instantiate one group; an argument of the wrong kind is the user's mistake and named by its key.

    Raises:
        UserError: the group names no such class, or its values are not accepted.
    """
    try:
        return instantiate(config[key], **arguments, _convert_="all")
    except InstantiationException as error:
        line = explain(error.__cause__ or error, "train")
        reason = line or str(error.__cause__ or error).strip().splitlines()[0]
        if line is not None:
            raise UserError(line) from error
        raise UserError(f"{key}: {reason}") from error


def build_module(config: DictConfig, datamodule: ActiveDataModule) -> SegmentationModule:
    """The LightningModule of a config; the config goes into its checkpoints."""
    classes = datamodule.classes.names
    return SegmentationModule(
        build(config, "network", num_classes=len(classes)),
        build(config, "loss"),
        classes,
        **config.optimizer,
        horizon=config.schedule.horizon,
        config=plain(config),
    )


def plain(config: DictConfig) -> dict[str, Any]:
    """The resolved config as plain containers, as checkpoints and files hold it."""
    container = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    return dict(container)
