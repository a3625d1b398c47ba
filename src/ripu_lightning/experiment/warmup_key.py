"""Which runs share a warm-up checkpoint, and the key under which they find it."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from pytorch_lightning import Trainer
from torch import nn

from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.experiment.build import plain
from ripu_lightning.experiment.launching import launcher
from ripu_lightning.experiment.targets import OURS
from ripu_lightning.report.result import decisive
from ripu_lightning.report.run_files import RunFiles
from ripu_lightning.training import Schedule, SegmentationModule
from ripu_lightning.training.checkpoint_io import AtomicCheckpointIO
from ripu_lightning.training.lightning_internals import callbacks_of
from ripu_lightning.training.shared_warmup import SharedWarmup

STAGE = {"average_decay", "batchnorm", "data", "loss", "lr_schedule", "network", "optimizer", "seed"}
"""Groups and keys of the config that the first stage depends on."""
SCHEDULE = ("first_round", "horizon")
IDLE = ("log_every_n_steps", "enable_progress_bar")
"""Keys of the trainer that change no weight."""
PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "albumentations",
    "opencv-python-headless",
    "numpy",
    "pillow",
    "segmentation-models-pytorch",
    "timm",
    "transformers",
)
"""Packages that compute something in the first stage."""


def share_warmup(
    config: DictConfig,
    folder: Path,
    trainer: Trainer,
    module: SegmentationModule,
    datamodule: ActiveDataModule,
    schedule: Schedule,
) -> None:
    """Before ``fit``: start a new run from the warm-up checkpoint of another run, or leave its own for others."""
    cache = datamodule.cache.folder
    if cache is None or not _shares(plain(config), trainer, schedule):
        return
    key = warmup_key(plain(config), module, datamodule)
    if key is None:
        return
    step, last = schedule.first_round - 1, folder / "checkpoints" / "last.ckpt"
    warmup, callbacks = SharedWarmup(cache / "starts", key, step, last), callbacks_of(trainer)
    found = warmup.find(trainer, module)
    if found is not None:
        for callback in callbacks:
            if isinstance(callback, RunFiles):
                callback.write_config()  # before there is a checkpoint: it says whose that is
        AtomicCheckpointIO().save_checkpoint(found, last)
        print(f"starts from step {step}, which another run has trained: {warmup.path}", flush=True)
    callbacks.append(warmup)


def _shares(config: Mapping[str, Any], trainer: Trainer, schedule: Schedule) -> bool:
    """Whether the run has a warm-up to share, and this process decides for all of it."""
    others = launcher() or ("", 1)
    return (
        trainer.is_global_zero
        and others[1] == 1
        and config["trainer"]["num_nodes"] == 1
        and config["trainer"]["strategy"] in ("auto", "ddp")
        and schedule.rounds > 0
        and schedule.first_round > 1
        and all(
            target.startswith((OURS, "torch."))
            for group in ("data", "network", "loss", "optimizer", "lr_schedule")
            for target in _targets(config[group])
        )
    )


def warmup_key(config: Mapping[str, Any], module: nn.Module, datamodule: ActiveDataModule) -> str | None:
    """SHA-256 of all that the weights before the first round depend on; None if the data have no fingerprint."""
    sets = [dataset for dataset in (datamodule.source, datamodule.target) if dataset is not None]
    fingerprints = [dataset.fingerprint() for dataset in sets]
    if None in fingerprints:
        return None
    chosen = {key: value for key, value in decisive(config).items() if key.split(".")[0] in STAGE}
    schedule = {key: config["schedule"][key] for key in SCHEDULE}
    trainer = {key: value for key, value in config["trainer"].items() if key not in IDLE}
    parts = [chosen, schedule, trainer, config.get("compile"), fingerprints, _weights(module), *_machine(), _code()]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _weights(module: nn.Module) -> str:
    digest = sha256()
    for name, value in module.state_dict().items():
        digest.update(repr((name, value.dtype, tuple(value.shape))).encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _machine() -> list[Any]:
    """What the rounding of results depends on."""
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), gpus]


@cache
def _code() -> list[str]:
    """The package's own sources, as they are at the first call, and the versions of the packages that compute."""
    package, digest = Path(__file__).resolve().parents[1], sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(repr(path.relative_to(package).as_posix()).encode() + path.read_bytes())
    return [digest.hexdigest(), *(f"{name} {_version(name)}" for name in PACKAGES)]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _targets(part: Any) -> Iterator[str]:
    if isinstance(part, Mapping):
        yield from (str(value) for key, value in part.items() if key == "_target_")
    for value in part.values() if isinstance(part, Mapping) else part if isinstance(part, list) else ():
        yield from _targets(value)
