"""Checkpoints of ours, told apart from everything else that torch can save."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ripu_lightning.errors import UserError
from ripu_lightning.networks.weights import read_entries
from ripu_lightning.report.files import RunFiles
from ripu_lightning.report.result import is_purchase
from ripu_lightning.untrusted import is_line, leaves

BOUGHT = RunFiles.__qualname__
"""Under which name a checkpoint says what was bought."""
PREFIX = "network."
"""What a checkpoint of :class:`SegmentationModule` puts in front of its network's parameters."""
GROUPS = ("network", "data", "loss", "optimizer", "schedule", "evaluation", "trainer")
"""What an evaluation needs of the config in a checkpoint."""
PLAIN = {str, int, float, bool, type(None)}


def is_ours(checkpoint: Mapping[str, Any]) -> bool:
    """Whether all is there that an evaluation needs of a :class:`SegmentationModule`'s checkpoint."""
    try:
        known = checkpoint["hyper_parameters"]
        config, bought, state = known["config"], checkpoint["callbacks"][BOUGHT], checkpoint["state_dict"]
        return (
            all(isinstance(part, Mapping) for part in (state, *(config[group] for group in GROUPS)))
            and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items())
            and all(type(leaf) in PLAIN for part in (config, bought, known["classes"]) for leaf in leaves(part))
            and all(isinstance(text, str) and is_line(text) for text in (config["name"], *known["classes"]))
            and all(isinstance(number, int) for number in (config["seed"], checkpoint.get("global_step", 0)))
            and is_purchase(bought)
        )
    except (KeyError, TypeError, ValueError):
        return False


def network_state(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's own state dict."""
    state = checkpoint["state_dict"].items()
    return {key.removeprefix(PREFIX): value for key, value in state if key.startswith(PREFIX)}


def load_checkpoint(path: Path) -> Mapping[str, Any]:
    """A checkpoint of :class:`SegmentationModule`.

    Raises:
        UserError: a file that can not be read, or a checkpoint of something else.
    """
    checkpoint = read_entries(path, "checkpoint")
    if not is_ours(checkpoint):
        raise UserError(
            f"checkpoint: {path} is no checkpoint written by ripu-train (ripu-convert makes one of the public code's)"
        )
    return checkpoint
