"""Which runs share a start, and the key under which they find it."""

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

from ripu_lightning.cli.build import plain
from ripu_lightning.cli.launching import launcher
from ripu_lightning.cli.targets import OURS
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.report.files import RunFiles
from ripu_lightning.report.result import decisive
from ripu_lightning.training import SegmentationModule, Stages
from ripu_lightning.training.checkpoints import WholeCheckpoints
from ripu_lightning.training.loop import callbacks_of
from ripu_lightning.training.starts import SharedStart

STAGE = {"data", "network", "loss", "optimizer", "seed"}
"""Groups of the config that the first stage depends on."""
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
    "transformers",
)
"""Those that compute something in the first stage."""


def share_start(
    config: DictConfig,
    folder: Path,
    trainer: Trainer,
    module: SegmentationModule,
    datamodule: ActiveDataModule,
    stages: Stages,
) -> None:
    """Let a new run begin from the start that another one has trained, or leave its own for others.

    Args:
        config: of the run.
        folder: the run's.
        trainer: of the run, before ``fit``.
        module: with the weights that the run starts from.
        datamodule: checked.
        stages: of the run.

    Raises:
        UserError: the run's folder can not be written.
    """
    key = start_key(plain(config), module, datamodule) if _shares(plain(config), trainer, stages) else None
    if key is None or datamodule.cache.folder is None:
        return
    step, last = stages.first_round - 1, folder / "checkpoints" / "last.ckpt"
    start = SharedStart(datamodule.cache.folder / "starts", key, step, last)
    callbacks = callbacks_of(trainer)
    found = start.find(trainer, module)
    if found is not None:
        for callback in callbacks:
            if isinstance(callback, RunFiles):
                callback.write_config()  # before there is a checkpoint: it says whose that is
        WholeCheckpoints().save_checkpoint(found, last)
        print(f"starts from step {step}, which another run has trained: {start.path}", flush=True)
    callbacks.append(start)


def _shares(config: Mapping[str, Any], trainer: Trainer, stages: Stages) -> bool:
    """Whether the run has a start to share, and this process decides for all of it."""
    others = launcher() or ("", 1)
    return (
        trainer.is_global_zero
        and others[1] == 1
        and config["trainer"]["num_nodes"] == 1
        and config["trainer"]["strategy"] in ("auto", "ddp")
        and stages.rounds > 0
        and stages.first_round > 1
        and all(target.startswith(OURS) for group in ("data", "network", "loss") for target in _targets(config[group]))
    )


def start_key(config: Mapping[str, Any], module: nn.Module, datamodule: ActiveDataModule) -> str | None:
    """SHA-256 of all that the weights before the first round depend on; None where the data can not be told.

    Args:
        config: of the run, resolved, as plain containers.
        module: with the weights that the run starts from.
        datamodule: its data sets have fingerprints.
    """
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
    """What decides how a processor rounds."""
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return [torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), gpus]


@cache
def _code() -> list[str]:
    """The package's own sources, as they are at the first call, and the versions of those that compute."""
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
        for key, value in part.items():
            if key == "_target_":
                yield str(value)
            yield from _targets(value)
    elif isinstance(part, list):
        for value in part:
            yield from _targets(value)
