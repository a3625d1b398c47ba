"""A domain pair in memory and a network of two convolutions: the whole loop in a second."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor, nn

from ripu_lightning.acquisition import Budget, get_strategy
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.data import ActiveDataModule, ClassMap, SegmentationDataset
from ripu_lightning.data.transforms import MEAN, STD
from ripu_lightning.errors import UserError
from ripu_lightning.losses import NegativeLearning, SourceCrossEntropy, TargetCrossEntropy, WeightedLosses
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.training import ActiveLearningLoop, Schedule, SegmentationModule, polynomial_decay

CLASSES = ClassMap(names=("road", "sky", "tree"), colors=((128, 64, 128), (70, 130, 180), (107, 142, 35)))


class Blocks(SegmentationDataset):
    """Images of coloured noise whose colour tells the class, with a few ignored pixels."""

    def __init__(self, name: str, length: int = 5, height: int = 24, width: int = 32) -> None:
        self.classes, self.ids = CLASSES, [f"{name}_{index}" for index in range(length)]
        self._name, self._size = name, (height, width)

    def label(self, index: int) -> np.ndarray:
        return self._draw_label(index)

    def _draw_label(self, index: int) -> np.ndarray:
        generator = np.random.default_rng([len(self._name), index])
        coarse = generator.integers(0, len(CLASSES), size=(self._size[0] // 4, self._size[1] // 4))
        label = coarse.repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
        label[generator.random(label.shape) < 0.05] = 255
        return label

    def image(self, index: int) -> np.ndarray:
        generator = np.random.default_rng([7, len(self._name), index])
        colours = np.array([*CLASSES.colors, (0, 0, 0)])
        picture = colours[np.minimum(self._draw_label(index), len(CLASSES))]
        return np.clip(picture + generator.normal(0, 40, picture.shape), 0, 255).astype(np.uint8)

    def size(self, index: int) -> tuple[int, int]:
        return self._size


class Stamped(Blocks):
    """Blocks that may be cached; they count what was opened, and ``closed`` and ``broken`` ones cannot be."""

    def __init__(self, name: str = "stamped", length: int = 5, fingerprint: str | None = "abc", **size: int) -> None:
        super().__init__(name, length, **size)
        self.stamp = fingerprint
        self.opened: list[tuple[str, int]] = []
        self.closed: set[str] = set()
        self.broken: set[tuple[str, int]] = set()

    def fingerprint(self) -> str | None:
        return self.stamp

    def image(self, index: int) -> np.ndarray:
        self._open("image", index)
        return super().image(index)

    def label(self, index: int) -> np.ndarray:
        self._open("label", index)
        return super().label(index)

    def check(self, labels: bool = True) -> None:
        for index in range(len(self)):
            self._open("image", index)
            if labels:
                self._open("label", index)

    def _open(self, kind: str, index: int) -> None:
        assert kind not in self.closed, f"{kind} {index} was opened"
        self.opened.append((kind, index))
        if (kind, index) in self.broken:
            raise UserError(f"{self.ids[index]}: broken {kind}")


class TwoConvs(nn.Module):
    """Meets the network contract with a BatchNorm in its backbone."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.2)
        )
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        features = self.backbone(images)
        return SegmentationOutput(self.head(features), features)


def losses() -> WeightedLosses:
    terms = {"source": SourceCrossEntropy(), "target": TargetCrossEntropy(), "negative": NegativeLearning()}
    return WeightedLosses(terms, dict.fromkeys(terms, 1.0))


def module(classes: ClassMap = CLASSES, **options: object) -> SegmentationModule:
    torch.manual_seed(0)
    arguments = {
        "optimizer": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4),
        "lr_scheduler": partial(polynomial_decay, horizon=50),
        "head_factor": 2.0,
        **options,
    }
    return SegmentationModule(TwoConvs(), arguments.pop("losses", None) or losses(), classes, **arguments)


def datamodule(length: int = 5, **options: object) -> ActiveDataModule:
    source, target, val = Blocks("source", 4), Blocks("target!", length), Blocks("val", 3)
    return ActiveDataModule(source, target, val, **{"batch_size": 2, "eval_batch_size": 2, **options})


def loop(
    folder: Path, data: ActiveDataModule, strategy: str = "ripu", rounds: int = 2, **options: object
) -> ActiveLearningLoop:
    schedule = Schedule(steps=8, first_round=3, interval=2, rounds=rounds)
    budget = Budget(ratio=0.1, rounds=rounds)
    return ActiveLearningLoop(
        get_strategy(strategy), budget, GroundTruth(data.target), schedule, folder, **{"seed": 0, **options}
    )


def trainer(folder: Path, active: ActiveLearningLoop, *callbacks: Callback, **options: object) -> Trainer:
    arguments = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **active.trainer_arguments(),
        **options,
    }
    return Trainer(default_root_dir=folder, callbacks=[active, *callbacks], **arguments)


def denormalize(image: Tensor) -> np.ndarray:
    """Network input ``(3, H, W)`` back to an RGB picture ``(H, W, 3)`` uint8."""
    pixels = image.float() * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    return (pixels.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
