"""The weights a run starts from: those of a checkpoint, or of an experiment that is run first."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ripu_lightning.cli.apart import quoted, start_apart
from ripu_lightning.cli.build import plain
from ripu_lightning.cli.checkpoints import load_checkpoint, network_state
from ripu_lightning.errors import UserError
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.report.result import decisive
from ripu_lightning.training import SegmentationModule
from ripu_lightning.untrusted import read_config

SHARED = {"data", "dataset", "network", "parity", "trainer", "logger", "debug", "seed", "pictures", "per_class"}
"""What is said of a run on the command line and holds for the experiment before it too."""


RUN_OF_OURS = {"WANDB_RUN_ID", "WANDB_SERVICE", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"}
"""What would have the experiment before it log into this run, or as a run of its W&B sweep."""


def initial_weights(config: DictConfig, folder: Path) -> Path | None:
    """The checkpoint to start from, after training it where ``pretrain`` names an experiment; None for none.

    Raises:
        UserError: both are given, no such file, or the first run failed.
    """
    if config.pretrain is None:
        return None if config.initial is None else Path(config.initial)
    if config.initial is not None:
        raise UserError("initial: pretrain makes the initial weights; give one of the two (pretrain=null)")
    first = folder / "pretrain"
    if not _finished(first):
        _train_first(config.pretrain, first)
    _require_same(config, read_config(first / "config.yaml"), first)
    return first / "checkpoints" / "last.ckpt"


def load_initial(module: SegmentationModule, path: Path | None) -> None:
    """Fill the network, and nothing else, with a checkpoint's weights; None leaves it as it is.

    Raises:
        UserError: no checkpoint, or one of another network or other classes.
    """
    if path is None:
        return
    checkpoint = load_checkpoint(path)
    classes = checkpoint["hyper_parameters"]["classes"]
    if list(classes) != module.classes:
        raise UserError(f"initial: {path} was trained for the classes {', '.join(classes)}, not {module.classes}")
    _require_same_function(checkpoint["hyper_parameters"]["config"]["network"], module, path)
    try:
        module.network.load_state_dict(network_state(checkpoint))
    except RuntimeError as error:
        raise UserError(
            f"initial: the weights in {path} are those of another network than network=... builds"
        ) from error


def _require_same(config: DictConfig, first: Mapping[str, Any], folder: Path) -> None:
    """Both steps are of one network, one target and one seed; a folder of other ones is not gone on with."""
    ours, theirs = decisive(plain(config)), decisive(first)
    for key in sorted(ours.keys() & theirs.keys()):
        if key.startswith(("network.", "data.target.", "seed")) and ours[key] != theirs[key]:
            raise UserError(
                f"pretrain: the first step in {folder} was trained with {key}={theirs[key]}, this run has {ours[key]}; "
                "choose another output, or remove that folder"
            )


def _require_same_function(trained: Mapping[str, Any], module: SegmentationModule, path: Path) -> None:
    """Weights alone do not make a network: this argument changes what it computes."""
    ours, theirs = module.hparams["config"].get("network", {}).get("batchnorm_eps"), trained.get("batchnorm_eps")
    if ours != theirs:
        raise UserError(
            f"initial: the network in {path} has batchnorm_eps={theirs}, this run's has {ours}; "
            f"add network.batchnorm_eps={'null' if theirs is None else theirs}"
        )


def _train_first(experiment: str, folder: Path) -> None:
    shared = [item for item in HydraConfig.get().overrides.task if _group(item) in SHARED]
    print(f"first step: experiment={experiment} in {folder}", flush=True)
    # In a process of its own, as the jobs of a sweep: its ranks and loggers do not leak into this run.
    overrides = [f"experiment={experiment}", *shared, f"output={quoted(folder)}"]
    environment = {key: value for key, value in os.environ.items() if key not in RUN_OF_OURS}
    if start_apart(overrides, environment):
        raise UserError(f"pretrain: the first step failed, see above; its folder is {folder}")


def _group(override: str) -> str:
    """``data`` for ``+data.source.root=x``, ``dataset`` for ``dataset@data.source=x``."""
    key = override.lstrip("+~").split("=")[0]
    for separator in (".", "@", "/"):
        key = key.split(separator)[0]
    return key


def _finished(folder: Path) -> bool:
    config, checkpoint = folder / "config.yaml", folder / "checkpoints" / "last.ckpt"
    if not (config.is_file() and checkpoint.is_file()):
        return False
    schedule, done = read_config(config).get("schedule"), read_entries(checkpoint, "pretrain").get("global_step")
    steps = schedule.get("steps") if isinstance(schedule, dict) else None
    # Of a damaged folder nothing is known; the first step then says itself why it can not go on.
    return isinstance(steps, int) and isinstance(done, int) and done >= steps
