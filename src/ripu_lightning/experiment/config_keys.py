"""Errors in the terms of the config: keys without a value, and the key of an argument that a class refuses."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ripu_lightning.errors import InvalidArgument, UserError

REGION_TYPES = {"Pixel", "Square", "Superpixel", "WholeImage", "slic"}
SELECTION_RULES = {"Greedy", "TopRandom", "Power", "Scheduled", "ClassBalanced", "SegmentBalanced", "KCentre"}
GROUPS = {
    "ActiveDataModule": "data",
    "ActiveLearningLoop": "",
    "Budget": "budget",
    "Inference": "evaluation",
    "RoundPictures": "",
    "RunCheckpoint": "",
    "Schedule": "schedule",
    "SegmentationModule": "",
    "Trainer": "trainer",
    "Transform": "data",
    "load_class_map": "",
    "WeightedLosses": "loss",
    "constant_rate": "lr_schedule",
    "cosine_decay": "lr_schedule",
    "polynomial_decay": "lr_schedule",
    "run_experiment": "",
}
"""Class or function -> the group of its arguments; "" is the top level."""
KEYS = {
    ("ActiveLearningLoop", "patience"): "rank_patience",
    ("ActiveLearningLoop", "extend_pool"): "extend_pool",
    ("Budget", "unit"): "budget",
    ("ActiveLearningLoop", "resize_twice"): "parity.resize_twice",
    ("RoundPictures", "count"): "pictures",
    ("RunCheckpoint", "every"): "checkpoint_every",
    ("Schedule", "rounds"): "budget.rounds",
    ("SavePredictions", "form"): "predictions",
    ("SegmentationModule", "head_factor"): "optimizer.head_factor",
    ("SegmentationModule", "layer_decay"): "optimizer.layer_decay",
    ("SegmentationModule", "norm_decay"): "optimizer.norm_decay",
    ("cosine_decay", "horizon"): "schedule.horizon",
    ("polynomial_decay", "horizon"): "schedule.horizon",
}
"""Arguments whose key does not follow from :data:`GROUPS`."""


def config_key(owner: str, argument: str, config: Mapping[str, Any], path: str | None = None) -> str | None:
    """The config key of an argument; None for an object that is not of the config.

    Args:
        owner: class or function that refused the argument.
        argument: its name.
        config: of the run.
        path: key under which the object is being built; without it, the key follows from the owner.

    >>> config_key("Budget", "ratio", {})
    'budget.ratio'
    >>> config_key("Square", "radius", {"region_type": {}})  # squares of the strategy itself
    'strategy.radius'
    >>> config_key("SmallNet", "width", {}, path="network")
    'network.width'
    """
    if (owner, argument) in KEYS:
        return KEYS[owner, argument]
    group = GROUPS.get(owner) if path is None else path
    if group is None and owner == config.get("strategy", {}).get("name"):
        group = "strategy"
    for names, choice in ((REGION_TYPES, "region_type"), (SELECTION_RULES, "selection_rule")):
        if group is None and owner in names:
            group = choice if config.get(choice) else "strategy"
    if group == "strategy" and argument in ("region_type", "selection_rule"):
        return argument
    return None if group is None else f"{group}.{argument}".lstrip(".")


@contextmanager
def errors_name_keys(config: Mapping[str, Any], path: str | None = None) -> Iterator[None]:
    """Turn an :class:`InvalidArgument` of the block into a ``UserError`` that names the config key.

    Args:
        config: of the run.
        path: see :func:`config_key`.
    """
    try:
        yield
    except InvalidArgument as error:
        key = config_key(error.owner, error.argument, config, path)
        if key is None:
            raise
        raise UserError(f"{key} {error.problem}") from error


def require_values(config: DictConfig, part: str = "") -> None:
    """Refuse a config with values still missing (``???``) or with references that lead nowhere.

    Args:
        config: of the command.
        part: check only this key, and what it refers to.

    Raises:
        UserError: naming the key.
    """
    chosen = OmegaConf.select(config, part) if part else config
    missing = next(_missing(chosen, f"{part}." if part else ""), None)
    if missing:
        raise UserError(f"{missing} has no value; add {missing}=... to the command")
    try:
        OmegaConf.to_container(chosen, resolve=True)
    except OmegaConfBaseException as error:
        unset = re.search(r"Environment variable '(\w+)' not found", str(error))
        if unset:
            raise UserError(f"{error.full_key}: set {unset[1]}, or add {error.full_key}=... to the command") from error
        raise UserError(f"{error.full_key or 'config'}: {first_line(error)}") from error


def _missing(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config.keys()):
        if OmegaConf.is_missing(config, key):
            yield f"{prefix}{key}"
        elif not OmegaConf.is_interpolation(config, key) and isinstance(config[key], DictConfig):
            yield from _missing(config[key], f"{prefix}{key}.")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its type where it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
