"""Checkpoints read without executing anything in them, and told apart from everything else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ripu_lightning.errors import UserError
from ripu_lightning.report.files import RunFiles

BOUGHT = RunFiles.__qualname__
"""Under which name a checkpoint says what was bought."""


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The entries of any file that ``torch.save`` wrote.

    Raises:
        UserError: no such file, one that can not be read, or one without entries.
    """
    if not path.is_file():
        raise UserError(f"checkpoint: no file {path}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file that is no checkpoint makes the reader fail in any way
        raise UserError(
            f"checkpoint: cannot read {path} ({type(error).__name__}); it is damaged, or holds more than tensors, "
            "numbers and text"
        ) from error
    if not isinstance(checkpoint, Mapping):
        raise UserError(f"checkpoint: {path} holds a {type(checkpoint).__name__}, expected entries by name")
    return checkpoint


def is_ours(checkpoint: Mapping[str, Any]) -> bool:
    """Whether all is there that an evaluation needs of a :class:`SegmentationModule`'s checkpoint."""
    try:
        known = checkpoint["hyper_parameters"]
        parts = (checkpoint["state_dict"], known["config"]["network"], known["config"]["data"])
        return all(isinstance(part, Mapping) for part in (*parts, checkpoint["callbacks"][BOUGHT])) and all(
            isinstance(name, str) for name in known["classes"]
        )
    except (KeyError, TypeError):
        return False


def load_checkpoint(path: Path) -> Mapping[str, Any]:
    """A checkpoint of :class:`SegmentationModule`.

    Raises:
        UserError: as :func:`read_checkpoint`, or a checkpoint of something else.
    """
    checkpoint = read_checkpoint(path)
    if not is_ours(checkpoint):
        raise UserError(
            f"checkpoint: {path} is no checkpoint written by ripu-train (ripu-convert makes one of the public code's)"
        )
    return checkpoint
