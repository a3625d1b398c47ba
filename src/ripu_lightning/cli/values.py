"""Checks of a composed config's plain values: types and ranges, before torch is loaded."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ripu_lightning.errors import UserError

# Key -> (kind, least value); what is not listed here is checked by the class that takes it.
NUMBERS: dict[str, tuple[type, float]] = {
    "seed": (int, 0),
    "pictures": (int, 0),
    "schedule.steps": (int, 1),
    "schedule.first_round": (int, 1),
    "schedule.interval": (int, 1),
    "schedule.horizon": (int, 1),
    "budget.rounds": (int, 0),
    "budget.clicks": (int, 1),
    "budget.images": (int, 1),
    "budget.pixels": (int, 1),
    "budget.ratio": (float, 0),
    "budget.regions": (int, 1),
    "geometry.compactness": (float, 0),
    "geometry.exclusion": (int, 0),
    "geometry.radius": (int, 0),
    "geometry.segments": (int, 1),
    "selection.share": (float, 0),
    "selection.shortlist": (int, 1),
    "strategy.anchors": (int, 1),
    "strategy.balance": (float, 0),
    "strategy.curvature": (float, 0),
    "strategy.eps": (float, 0),
    "strategy.radius": (int, 0),
    "strategy.samples": (int, 1),
    "strategy.share": (float, 0),
    "network.dropout": (float, 0),
    "optimizer.lr": (float, 0),
    "optimizer.head_factor": (float, 0),
    "optimizer.momentum": (float, 0),
    "optimizer.weight_decay": (float, 0),
    "optimizer.power": (float, 0),
    "trainer.gradient_clip_val": (float, 0),
    "data.batch_size": (int, 1),
    "data.eval_batch_size": (int, 1),
    "data.num_workers": (int, 0),
}
FREE = {"data.num_workers", "data.eval_batch_size", "annotator.folder"}
"""Keys that may change when a run goes on, beside some whole groups."""
SWITCHES = ("per_class", "predictions", "optimizer.freeze_batchnorm", "trainer.enable_progress_bar")


def check_values(config: DictConfig) -> None:
    """Refuse numbers and switches that can not be.

    Raises:
        UserError: naming the key.
    """
    for key, (kind, least) in NUMBERS.items():
        value = OmegaConf.select(config, key)
        if value is None:
            continue
        number = isinstance(value, (int, kind)) and not isinstance(value, bool)
        if not number or not value >= least:
            noun = "a whole number" if kind is int else "a number"
            raise UserError(f"{key}: expected {noun} of {least} or more, got {value!r}")
    for key in SWITCHES:
        if not isinstance(OmegaConf.select(config, key), bool | None):
            raise UserError(f"{key}: expected true or false, got {OmegaConf.select(config, key)!r}")
    if OmegaConf.select(config, "schedule") is not None and config.schedule.horizon < config.schedule.steps:
        raise UserError(
            f"schedule.horizon: {config.schedule.horizon} steps, but the run has {config.schedule.steps}; "
            "the learning rate would be 0 before the end"
        )


def refuse_other_config(old: Mapping[Any, Any], new: Mapping[Any, Any], folder: str) -> None:
    """Refuse to go on with a run under another config: its labels and its checkpoint belong to the first.

    Raises:
        UserError: naming the first key that differs.
    """
    before, after = _flat(old), _flat(new)
    for key in sorted(before.keys() | after.keys()):
        free = key.split(".")[0] in {"trainer", "logger", "pictures", "per_class", "output", "name"}
        if not free and key not in FREE and before.get(key) != after.get(key):
            raise UserError(
                f"{key}: the run in {folder} has {before.get(key)!r}, this command {after.get(key)!r}; "
                "give the first command again to go on with it, or choose another output"
            )


def _flat(config: Mapping[Any, Any]) -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, child in config.items():
        if isinstance(child, Mapping):
            flat |= {f"{key}.{name}": value for name, value in _flat(child).items()}
        else:
            flat[str(key)] = child
    return flat
