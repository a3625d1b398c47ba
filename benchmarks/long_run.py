"""Memory, open files and time of a long run: one real ``fit`` over many rounds on a large pool of small images.

Images are drawn when they are read; a tiny network trains a few steps a stage, loaders have two workers each,
and every round scores the whole pool and queries a few images. What is printed after each round must stay flat.

Run ``python benchmarks/long_run.py`` for a short form, ``--images 10000 --rounds 50`` for the whole.
"""

import argparse
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ripu_lightning.acquisition import Budget, get_strategy
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.data import ActiveDataModule, ClassMap, SegmentationDataset
from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.losses import SourceCrossEntropy, TargetCrossEntropy, WeightedLosses
from ripu_lightning.networks import SegmentationOutput
from ripu_lightning.training import ActiveLearningLoop, Schedule, SegmentationModule

CLASSES = ClassMap(names=("road", "sky", "tree"), colors=((128, 64, 128), (70, 130, 180), (107, 142, 35)))
HEIGHT, WIDTH, STEPS = 16, 24, 2


class Noise(SegmentationDataset):
    """Images of coloured noise, drawn from their number alone."""

    def __init__(self, name: str, length: int) -> None:
        self.classes, self.ids = CLASSES, [f"{name}/{index:06d}" for index in range(length)]

    def label(self, index: int) -> UInt8Array:
        """Blocks of 4 x 4 pixels, one class each."""
        coarse = np.random.default_rng(index).integers(0, len(CLASSES), size=(HEIGHT // 4, WIDTH // 4), dtype=np.uint8)
        return coarse.repeat(4, axis=0).repeat(4, axis=1)

    def image(self, index: int) -> UInt8Array:
        """The classes' colours, with noise."""
        noise = np.random.default_rng([index, 1]).integers(0, 60, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
        return np.array(CLASSES.colors, dtype=np.uint8)[self.label(index)] + noise

    def size(self, index: int) -> tuple[int, int]:
        """The same for all."""
        return HEIGHT, WIDTH


class TwoConvolutions(nn.Module):
    """The smallest network that meets the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = len(CLASSES)
        self.backbone = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, len(CLASSES), 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and features at stride 2."""
        features = self.backbone(images)
        return SegmentationOutput(self.head(features), features)


@dataclass(frozen=True)
class Usage:
    """What the process holds at one moment.

    Attributes:
        memory: resident bytes of this process.
        workers: bytes that its loader workers hold for themselves alone while a stage is trained.
        files: open file descriptors.
        seconds: since the moment before.
    """

    memory: int
    workers: int
    files: int
    seconds: float


class Watch(Callback):
    """Notes the usage at the end of every stage, after its round; place it behind the loop."""

    def __init__(self, shown: bool = False) -> None:
        self.shown, self.usages = shown, list[Usage]()
        self._workers, self._start = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Loader workers are there in the middle of a stage only."""
        self._workers = sum(map(private, children()))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note, and print a row."""
        now = time.perf_counter()
        usage = Usage(resident(), self._workers, len(os.listdir("/proc/self/fd")), now - self._start)
        self._start = now
        self.usages.append(usage)
        if self.shown:
            print(
                f"{len(self.usages):5}  {usage.memory / 1e6:8.1f} MB  {usage.workers / 1e6:8.1f} MB"
                f"  {usage.files:5} files  {usage.seconds:6.1f} s",
                flush=True,
            )


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private(process: int) -> int:
    """Bytes that a process shares with no other; 0 where it is gone."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_Dirty:"))


def children() -> list[int]:
    """The processes that the main thread of this one started and that still run."""
    return [int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def long_run(
    folder: Path, images: int, rounds: int, picks: int = 50, workers: int = 2, shown: bool = False
) -> list[Usage]:
    """Train and query ``picks`` squares of the pool in each round; the usage after each stage."""
    torch.manual_seed(0)
    source, target = Noise("source", 20), Noise("target", images)
    data = ActiveDataModule(
        source, target, Noise("val", 4), batch_size=2, eval_batch_size=16, num_workers=workers, cache=None
    )
    terms = {"source": SourceCrossEntropy(), "target": TargetCrossEntropy()}
    losses = WeightedLosses(terms, dict.fromkeys(terms, 1.0))
    data.domains = losses.images
    schedule = Schedule(steps=STEPS * (rounds + 1), first_round=STEPS, interval=STEPS, rounds=rounds)
    optimizer = partial(torch.optim.SGD, lr=0.01)
    module = SegmentationModule(TwoConvolutions(), losses, CLASSES.names, optimizer=optimizer)
    budget = Budget(regions=picks * rounds, per="pool", rounds=rounds)
    loop = ActiveLearningLoop(get_strategy("entropy"), budget, GroundTruth(target), schedule, folder / "labels")
    watch = Watch(shown)
    Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=[loop, watch],
        **loop.trainer_arguments(),
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module, datamodule=data)
    return watch.usages


def main() -> None:
    """Run in a temporary folder and print a row a stage."""
    parser = argparse.ArgumentParser(description="Memory, open files and time of a long run")
    parser.add_argument("--images", type=int, default=2000, help="images of the pool")
    parser.add_argument("--rounds", type=int, default=10, help="rounds, 50 picks each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("stage       memory      workers  open files    time")
    with tempfile.TemporaryDirectory() as folder:
        long_run(Path(folder), arguments.images, arguments.rounds, shown=True)
    print(f"most at any time: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
