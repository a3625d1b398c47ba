"""Conversion of a checkpoint from or to the public code: the content decides which; nothing is written on an error."""

import io
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.data import load_class_map
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.build import build, path_in
from ripu_lightning.experiment.checkpoints import PREFIX, SPENT, is_ours, network_state, trained_classes
from ripu_lightning.experiment.recorded_config import recorded
from ripu_lightning.experiment.targets import require_resolved, require_trusted
from ripu_lightning.files import explained, replacing
from ripu_lightning.networks.batchnorm import with_eps_inside
from ripu_lightning.networks.public import from_public, to_public
from ripu_lightning.networks.weights import read_entries, require_fit
from ripu_lightning.report.result import UNKNOWN_LABELLING

SAME_FUNCTION = {"weights": None, "batchnorm_eps": 0.0}
"""Arguments that make our DeepLab the public code's."""
OWN_KEYS = ("checkpoint", "to", "classes")
"""Keys of conf/convert.yaml that a training config does not have."""


def convert(config: DictConfig) -> str:
    """Write ``config.checkpoint`` to ``config.to`` in the other format.

    A public checkpoint gets the network, data and optimizer of ``config`` (``compose([...], "convert")``); a checkpoint
    of ``ripu-train`` contains its own.

    Returns:
        The format that was written, in words.

    Raises:
        UserError: the file cannot be read or does not fit its network, or ``to`` exists.
    """
    source, target = path_in(config, "checkpoint"), path_in(config, "to")
    if target.exists():
        raise UserError(f"to: {target} exists already; choose another name, or remove it")
    checkpoint = read_entries(source, "checkpoint")
    ours = is_ours(checkpoint)
    converted = _to_public(checkpoint, source) if ours else _from_public(checkpoint, source, config)
    note = f"{source} is unchanged"
    with explained(target, note):
        target.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()  # torch.save straight to the file would hide why the disk refuses
    torch.save(converted, buffer)
    with replacing(target, note) as file, explained(target, note):
        file.write(buffer.getbuffer())
    return "the public code" if ours else "ripu-train"


def _from_public(checkpoint: Mapping[str, Any], source: Path, config: DictConfig) -> dict[str, Any]:
    classes = load_class_map(config.classes)
    training = {key: value for key, value in recorded(config).items() if key not in OWN_KEYS}
    _require_deeplab(training["network"], "network")
    training["network"] |= SAME_FUNCTION
    training["batchnorm"] = "frozen"
    state = from_public(checkpoint)
    with torch.device("meta"):
        network = build(OmegaConf.create(training), "network", num_classes=len(classes))
    require_fit(network, state, f"checkpoint: {source} (classes={config.classes}, {len(classes)} of them)")
    return {
        "state_dict": {PREFIX + key: value for key, value in state.items()},
        "hyper_parameters": {"classes": classes.as_dict(), "config": training},
        "epoch": 0,
        "global_step": int(checkpoint.get("iteration", 0)),
        "callbacks": {SPENT: UNKNOWN_LABELLING},
        "pytorch-lightning_version": version("pytorch-lightning"),
    }


def _to_public(checkpoint: Mapping[str, Any], source: Path) -> dict[str, Any]:
    known = checkpoint["hyper_parameters"]
    network_config = {**known["config"]["network"], "weights": None}
    require_resolved(network_config, f"checkpoint: {source}")
    _require_deeplab(network_config, f"checkpoint: the network of {source}")
    require_trusted({"network": network_config}, f"checkpoint: {source}")
    config = OmegaConf.create({"network": network_config})
    with torch.device("meta"):
        network = build(config, "network", num_classes=len(trained_classes(checkpoint)))
    state = network_state(checkpoint)
    require_fit(network, state, f"checkpoint: {source}")
    return to_public(with_eps_inside(network, state), int(checkpoint.get("global_step", 0)))


def _require_deeplab(network: Mapping[str, Any], name: str) -> None:
    target, backbone = str(network.get("_target_")), str(network.get("backbone"))
    kind = target.rsplit(".", 1)[-1] if target.startswith("ripu_lightning.networks.") else target
    if kind not in {"DeepLabV2", "DeepLabV3Plus"} or not backbone.startswith("resnet"):
        raise UserError(
            f"{name} is {kind} on backbone {backbone}; the public code has DeepLabV2 and "
            "DeepLabV3Plus on ResNets: network=deeplab_v2 or network=deeplab_v3plus"
        )
