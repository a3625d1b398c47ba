"""A run that is complete is recognized before torch is loaded, if nothing of it has changed since it ended."""

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ripu_lightning.errors import UserError
from ripu_lightning.experiment.early_checks import PARTS, build_dataset
from ripu_lightning.files import write_bytes
from ripu_lightning.report.result import NAME as RESULT
from ripu_lightning.report.result import reached_with
from ripu_lightning.training.history import RoundRecord, read_history
from ripu_lightning.untrusted import read_bounded

NAME = "complete"
"""The file in a run's folder that says what the folder was like when the run had ended."""
FILES = ("config.yaml", "rounds.csv", RESULT, "checkpoints/last.ckpt")
LABELS = ("labels/manifest.json", "labels/*.parquet")
QUICK = ("ripu_lightning.data.FolderDataset", "ripu_lightning.data.Streets")
"""Data sets that torch is not needed for."""


def mark_complete(config: DictConfig, folder: Path) -> None:
    """Note what a run's folder and data are like, now that it is complete. Raises UserError if it cannot be written."""
    state = _state(config, folder)
    if state is not None:
        write_bytes(folder / NAME, f"{state}\n".encode(), "the run itself is complete")


def complete_history(config: DictConfig, folder: Path) -> list[RoundRecord] | None:
    """The records of a run that is complete; None where that takes a closer look.

    A closer look is what a command does anyway: it reads the checkpoint, compares config, labels and data with it, and
    says what differs.
    """
    with suppress(UserError, OSError, ValueError, KeyError):
        if (folder / NAME).is_file() and read_bounded(folder / NAME).decode().strip() == _state(config, folder):
            return read_history(folder / "rounds.csv")
    return None


def _state(config: DictConfig, folder: Path) -> str | None:
    """A digest of the config, the data and the files of a run; None where it takes torch or is not known."""
    parts = {name: config.data.get(name) for name in PARTS if config.data.get(name) is not None}
    if any(part.get("_target_") not in QUICK for part in parts.values()):
        return None
    data = [build_dataset(config, name).fingerprint() for name in parts]
    if not all((folder / name).is_file() for name in FILES):
        return None
    files = [*(folder / name for name in FILES), *(path for each in LABELS for path in sorted(folder.glob(each)))]
    states = [(path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    plain = cast(Mapping[str, Any], OmegaConf.to_container(config, resolve=True))
    return sha256(json.dumps([reached_with(plain), data, states], sort_keys=True, default=str).encode()).hexdigest()
