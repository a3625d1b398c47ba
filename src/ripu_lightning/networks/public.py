"""Conversion between checkpoints of the paper's public code (Xie et al., 2022) and state dicts of our networks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ripu_lightning.errors import UserError

PARTS = {"feature_extractor": "", "classifier": "head."}
"""The public code's networks, and the prefixes of their parameters in our networks."""
OTHERS = ("iteration", "optimizer_fea", "optimizer_cls")
COUNTER = "num_batches_tracked"


def from_public(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict of a :class:`DeepLabV2` or :class:`DeepLabV3Plus` from a checkpoint of the public code.

    The prefix ``module.`` of distributed training is dropped. The public BatchNorm has no eps and no
    batch counters: build the network with ``batchnorm_eps=0`` and freeze it for the same function.

    Raises:
        UserError: entries are missing or unknown.
    """
    unknown = [key for key in checkpoint if key not in {*PARTS, *OTHERS}]
    if unknown or not all(isinstance(checkpoint.get(part), Mapping) for part in PARTS):
        found = f"unknown entry {unknown[0]!r}" if unknown else f"entries {', '.join(map(repr, checkpoint)) or 'none'}"
        raise UserError(f"checkpoint: {found}; a checkpoint of the public code holds {', '.join((*PARTS, *OTHERS))}")
    if not isinstance(checkpoint.get("iteration", 0), int):
        raise UserError(f"checkpoint: iteration is {checkpoint['iteration']!r}, expected a whole number")
    state: dict[str, Tensor] = {}
    for part, prefix in PARTS.items():
        for key, value in checkpoint[part].items():
            name = prefix + str(key).removeprefix("module.")
            if not isinstance(value, Tensor):
                raise UserError(f"checkpoint: {part}.{key} is no tensor")
            if name in state:
                raise UserError(f"checkpoint: {part}.{key} occurs twice, with and without the prefix module.")
            state[name] = value
            if name.endswith(".running_var"):
                state[name.removesuffix("running_var") + COUNTER] = torch.tensor(0)
    return state


def to_public(state: Mapping[str, Tensor], iteration: int = 0) -> dict[str, Any]:
    """The public code's checkpoint from the state dict of our network; its two optimizers are empty.

    Raises:
        UserError: a parameter outside ``backbone`` and ``head``.
    """
    unknown = [key for key in state if not key.startswith(("backbone.", "head."))]
    if unknown:
        raise UserError(f"checkpoint: {unknown[0]} is part of neither backbone nor head")
    kept = {key: value for key, value in state.items() if not key.endswith(COUNTER)}
    return {
        "iteration": iteration,
        "feature_extractor": {key: value for key, value in kept.items() if key.startswith("backbone.")},
        "classifier": {key.removeprefix("head."): value for key, value in kept.items() if key.startswith("head.")},
        "optimizer_fea": {},
        "optimizer_cls": {},
    }
