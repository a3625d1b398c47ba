"""A run of seconds: random images, a small network, two rounds; shared by the tests of the reports."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.loggers import Logger

from ripu_lightning.acquisition import Budget, strategies
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.data.classes import ClassMap
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.losses import SourceCrossEntropy, TargetCrossEntropy, WeightedLosses
from ripu_lightning.networks.small import SmallNet
from ripu_lightning.training import ActiveLearningLoop, SegmentationModule, Stages

CLASSES = ClassMap(("road", "tree", "car"), ((200, 40, 40), (40, 200, 40), (40, 40, 200)))
SIZE = (32, 48)


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


def tiny_run(folder: Path, callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> Trainer:
    """Train over two rounds and six steps; ``callbacks`` come after the loop."""
    seed_everything(0, verbose=False)
    datamodule = ActiveDataModule(Blocks("source", 4), Blocks("target", 5), Blocks("eval", 2))
    losses = WeightedLosses(
        {"source": SourceCrossEntropy(), "target": TargetCrossEntropy()}, {"source": 1.0, "target": 1.0}
    )
    module = SegmentationModule(SmallNet(3, width=4), losses, CLASSES.names, lr=0.01)
    loop = ActiveLearningLoop(
        strategies.random(),
        Budget(ratio=0.1, rounds=2),
        GroundTruth(datamodule.target),
        Stages(steps=6, first_round=2, interval=2, rounds=2),
        folder / "labels",
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=3,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        log_every_n_steps=1,
        callbacks=[loop, *callbacks],
        logger=list(loggers),
        default_root_dir=str(folder),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for so little work more of them only get into each other's way
    try:
        trainer.fit(module, datamodule=datamodule)
    finally:
        torch.set_num_threads(threads)
    return trainer
