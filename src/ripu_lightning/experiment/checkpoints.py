"""Checkpoints of this package, distinguished from everything else that torch can save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.report.result import is_labelling
from ripu_lightning.report.run_files import RunFiles
from ripu_lightning.training.target_statistics import buffer_name
from ripu_lightning.untrusted import is_line, leaves

SPENT = RunFiles.__qualname__
"""Entry of a checkpoint that holds its strategy and budget."""
PREFIX, AVERAGE, STATISTICS = "network.", "average.module.", "target_statistics."
"""Prefixes in a checkpoint of :class:`SegmentationModule`: the network that was trained, its average, and the BatchNorm
statistics of the target."""
GROUPS = ("network", "data", "loss", "optimizer", "schedule", "evaluation", "trainer")
"""Groups of the config in a checkpoint that an evaluation needs."""
PLAIN = {str, int, float, bool, type(None)}


def is_ours(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds all that an evaluation needs."""
    try:
        known = checkpoint["hyper_parameters"]
        config, spent, state = known["config"], checkpoint["callbacks"][SPENT], checkpoint["state_dict"]
        return (
            all(isinstance(part, Mapping) for part in (state, *(config[group] for group in GROUPS)))
            and {"batchnorm", "average_decay"} <= config.keys()
            and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())
            and all(type(leaf) in PLAIN for part in (config, spent, known["classes"]) for leaf in leaves(part))
            and isinstance(config["name"], str)
            and is_line(config["name"])
            and isinstance(trained_classes(checkpoint), ClassMap)
            and all(isinstance(number, int) for number in (config["seed"], checkpoint.get("global_step", 0)))
            and is_labelling(spent)
        )
    except (KeyError, TypeError, ValueError):
        return False


def trained_classes(checkpoint: Mapping[str, Any]) -> ClassMap:
    """The class map that a checkpoint's network was trained for. Raises UserError where it holds none."""
    return ClassMap.from_dict(checkpoint["hyper_parameters"]["classes"], "the checkpoint's class map")


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """That of the evaluated network: of the average, if there is one, with the statistics of the target, if any."""
    state = checkpoint["state_dict"]
    averaged = bool(state.get("average.n_averaged", 0))
    found = _part(state, AVERAGE if averaged else PREFIX)
    if bool(state.get(f"{STATISTICS}_extra_state", False)):
        found |= {buffer_name(key): value for key, value in _part(state, STATISTICS).items() if key != "_extra_state"}
    return found


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_checkpoint(path: Path) -> Mapping[str, Any]:
    """A checkpoint of :class:`SegmentationModule`.

    Raises:
        UserError: a file that cannot be read, or a checkpoint of something else.
    """
    checkpoint = read_entries(path, "checkpoint")
    if not is_ours(checkpoint):
        raise UserError(
            f"checkpoint: {path} is no checkpoint written by ripu-train (ripu-convert makes one of the public code's)"
        )
    return checkpoint
