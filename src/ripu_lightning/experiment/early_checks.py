"""What is checked before torch is loaded: plain values, folders and files that the config names."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ripu_lightning.errors import InvalidArgument, UserError, require_choice, require_integer
from ripu_lightning.experiment.instantiate import instantiate

PARTS = ("source", "target", "target_eval")
"""Data sets of a run, keys of ``data``."""
DATAMODULE = "ripu_lightning.data.ActiveDataModule"
FOLDERS = "ripu_lightning.data.FolderDataset"
LARGEST_SEED = 2**32 - 1
"""That of NumPy's random numbers."""
FILES = ("checkpoint", "initial")
"""Keys of files that a command reads."""


def check_values(config: Mapping[str, Any]) -> None:
    """Refuse values of the top level that mean nothing.

    Raises:
        InvalidArgument: naming the key.
    """
    for key in ("name", "output"):
        if not isinstance(config[key], str) or not config[key].strip():
            problem = f"must be text, got {config[key]!r}; in a YAML file put it in quotes"
            raise InvalidArgument("run_experiment", key, problem)
    for key in ("seed", "pictures"):
        require_integer("run_experiment", key, config[key])
    if config["seed"] > LARGEST_SEED:
        raise InvalidArgument("run_experiment", "seed", f"must be at most {LARGEST_SEED}, got {config['seed']}")
    require_choice("run_experiment", "per_class", config["per_class"], (True, False))


def require_files(config: DictConfig) -> None:
    """Look for the checkpoints that a config names. Raises UserError naming the key and the file that is not there."""
    for key in FILES:
        path = config.get(key)
        if isinstance(path, str) and not Path(path).is_file():
            raise UserError(f"{key}: no file {path}; check the path")


def check_data(config: DictConfig) -> None:
    """Look for the folders and files of a config's data, without reading images or labels.

    Raises:
        UserError: naming the folder or file that is missing or not usable.
    """
    if OmegaConf.select(config, "data._target_") not in (None, DATAMODULE):
        return
    for name in PARTS:
        part = require_part(config, name)
        if part is not None and part.get("_target_") == FOLDERS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what training says once more
                # Without mismatch, which would read every image's size.
                build_dataset(config, name, mismatch="error")


def require_part(config: DictConfig, name: str) -> DictConfig | None:
    """The config of a data set; None for none. Raises UserError if it describes no data set."""
    part = config.data.get(name)
    if part is not None and not (OmegaConf.is_dict(part) and part.get("_target_")):
        raise UserError(f"data.{name}: expected a data set ({{_target_: ..., ...}}) or null, got {part}")
    chosen: DictConfig | None = part
    return chosen


def build_dataset(config: DictConfig, name: str, **arguments: Any) -> Any:
    """The data set ``data.NAME`` of a config; ``arguments`` replace its own.

    Raises:
        UserError: naming the key or file; where only the evaluation data are missing, how to do without.
    """
    try:
        return instantiate(config.data[name], f"data.{name}", **arguments)
    except UserError as error:
        if name == "target_eval" and "wrong root or split?" in str(error):
            raise UserError(
                f"{error}; data.target_eval.split=... names another split, data.target_eval=null trains without "
                "evaluation"
            ) from error
        raise


def build_data(config: DictConfig) -> Any:
    """The datamodule of a config. Raises UserError naming the key or file."""
    parts = {}
    if config.data.get("_target_") == DATAMODULE:
        found = {name: require_part(config, name) for name in PARTS}
        parts = {name: build_dataset(config, name) for name, part in found.items() if part is not None}
    return instantiate(config.data, "data", **parts)
