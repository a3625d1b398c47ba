"""A run of seconds, made once for all tests of a process: small images with slashes in their ids, two rounds."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import Logger, TensorBoardLogger

import tiny
from ripu_lightning.acquisition import Budget, get_strategy
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.round_pictures import RoundPictures
from ripu_lightning.report.run_files import RunFiles
from ripu_lightning.training import ActiveLearningLoop, Schedule
from tiny import CLASSES

SIZE = (32, 48)
CONFIG = {"name": "tiny", "seed": 0, "trainer": {}, "data": {"target_labels": "queried"}}


class Blocks(SegmentationDataset):
    """Noise whose colour tells the class of each 8x8 block; the first row of pixels is ignored."""

    def __init__(self, name: str, length: int) -> None:
        self.classes = CLASSES
        self.ids = [f"{name}/{index}" for index in range(length)]
        rng = np.random.default_rng(len(name))
        blocks = rng.integers(0, 3, (length, SIZE[0] // 8, SIZE[1] // 8), dtype=np.uint8)
        self._labels = blocks.repeat(8, axis=1).repeat(8, axis=2)
        noise = rng.integers(-40, 40, (*self._labels.shape, 3))
        self._images = np.clip(np.array(CLASSES.colors)[self._labels] + noise, 1, 255).astype(np.uint8)
        self._labels[:, 0] = 255

    def image(self, index: int) -> np.ndarray:
        return self._images[index].copy()

    def label(self, index: int) -> np.ndarray:
        return self._labels[index].copy()

    def size(self, index: int) -> tuple[int, int]:
        return SIZE


@dataclass
class Observer(Callback):
    """Copies the network after each stage, and notes whether training continues as before the pictures."""

    networks: list[Any] = field(default_factory=list)
    modes: list[tuple[bool, bool]] = field(default_factory=list)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.modes.append((all(child.training for child in pl_module.network.modules()), torch.is_grad_enabled()))
        self.networks.append(copy.deepcopy(pl_module).eval())


@dataclass(frozen=True)
class TinyRun:
    folder: Path
    trainer: Trainer
    data: ActiveDataModule
    loop: ActiveLearningLoop
    observer: Observer

    @property
    def store(self) -> LabelStore:
        return self.loop.store

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"


def train_tiny_run(folder: Path, *more: Logger) -> TinyRun:
    """Two rounds and six steps of RIPU, with all that a run records of images 1 and 3, in TensorBoard and ``more``."""
    loggers = [TensorBoardLogger(folder, name="tensorboard", version=""), *more]
    data = ActiveDataModule(Blocks("source", 4), Blocks("target", 5), Blocks("eval", 2))
    schedule = Schedule(steps=6, first_round=2, interval=2, rounds=2)
    budget = Budget(ratio=0.1, rounds=2)
    loop = ActiveLearningLoop(get_strategy("ripu"), budget, GroundTruth(data.target), schedule, folder / "labels")
    callbacks = [RunFiles(folder, loop, CONFIG), RoundPictures(folder / "pictures", count=2), Observer()]
    trainer = tiny.trainer(folder, loop, *callbacks, logger=loggers, log_every_n_steps=1)
    trainer.fit(tiny.module(), datamodule=data)
    return TinyRun(folder, trainer, data, loop, callbacks[-1])
