"""The published training recipe written down as its formulas read: the yardstick of ``train_step.py``.

Single precision, eager, NCHW; BatchNorm as a multiplication and an addition; one backward pass a domain; one
optimizer for the backbone and one for the head; every image decoded and resized by Pillow whenever it is drawn.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from ripu_lightning.data.pools import TrainBatch

IGNORE, THRESHOLD, EPSILON, CONSISTENCY_WEIGHT = 255, 0.05, 1e-6, 0.1
LR, HEAD_FACTOR, MOMENTUM, WEIGHT_DECAY, HORIZON, POWER = 2.5e-4, 10, 0.9, 5e-4, 62_500, 0.9
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
Mark = Callable[[str], None]


class MultiplyAdd(nn.Module):
    """Frozen BatchNorm; scale and shift are worked out anew in every call."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.register_buffer("weight", norm.weight.detach().clone())
        self.register_buffer("bias", norm.bias.detach().clone())
        self.register_buffer("mean", norm.running_mean.clone())
        self.register_buffer("variance", norm.running_var + norm.eps)  # the published one has no eps

    def forward(self, features: Tensor) -> Tensor:
        """``(B, C, H, W)``, same shape."""
        scale = self.weight * self.variance.rsqrt()
        shift = self.bias - self.mean * scale
        return features * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


def plain_network(network: nn.Module) -> nn.Module:
    """A copy of the same function, with :class:`MultiplyAdd` for BatchNorm and contiguous weights."""
    copy = deepcopy(network)
    for module in list(copy.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                setattr(module, name, MultiplyAdd(child))
    return copy.to(memory_format=torch.contiguous_format).train()


def full_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Images ``(B, 3, H, W)`` -> logits ``(B, C, H, W)``."""
    return F.interpolate(network(images).logits, images.shape[-2:], mode="bilinear", align_corners=True)


def source_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and local consistency (L1) on the pixels where the label map's Laplacian is not 0."""
    classes, probabilities = logits.shape[1], logits.softmax(dim=1)
    mean = logits.new_full((classes, 1, 3, 3), 1 / 9)
    means = F.conv2d(F.pad(probabilities, (1, 1, 1, 1), mode="replicate"), mean, groups=classes)
    laplacian = -logits.new_ones((1, 1, 3, 3))
    laplacian[..., 1, 1] = 8
    edges = F.conv2d(labels[:, None].to(logits.dtype), laplacian, padding=1)[:, 0]
    counted = (edges != 0) & (labels != IGNORE)
    distance = (probabilities - means).abs().sum(dim=1)
    return F.cross_entropy(logits, labels, ignore_index=IGNORE), distance[counted].mean()


def target_losses(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy on the queried labels and negative learning on all pixels."""
    probabilities = logits.softmax(dim=1)
    small = (probabilities < THRESHOLD).detach()
    negative = -(small * (1 - probabilities + EPSILON).log()).sum() / small.sum()
    return F.cross_entropy(logits, labels, ignore_index=IGNORE), negative


class PlainStep:
    """Network, two optimizers and the step itself.

    Args:
        network: what :func:`plain_network` returned.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network, self.steps = network, 0
        parts = (network.backbone, network.head)
        self.optimizers = [
            torch.optim.SGD(part.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY) for part in parts
        ]

    def __call__(self, batch: dict[str, TrainBatch], mark: Mark) -> None:
        """One step; ``mark`` gets the name of each phase when it ends."""
        self._start()
        mark("optimizer")
        self._domain(batch["source"], source_losses, CONSISTENCY_WEIGHT, mark)
        self._domain(batch["target"], target_losses, 1.0, mark)
        for optimizer in self.optimizers:
            optimizer.step()
        mark("optimizer")

    def _start(self) -> None:
        rate = LR * (1 - self.steps / HORIZON) ** POWER
        self.steps += 1
        for optimizer, factor in zip(self.optimizers, (1, HEAD_FACTOR), strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.zero_grad()

    def _domain(
        self, part: TrainBatch, losses: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], weight: float, mark: Mark
    ) -> None:
        device = next(self.network.parameters()).device
        images, labels = (part[key].to(device, non_blocking=True) for key in ("image", "label"))
        mark("data")
        logits = full_logits(self.network, images)
        mark("forward")
        first, second = losses(logits, labels.long())
        total = first + weight * second
        mark("losses")
        logits.register_hook(lambda _: mark("losses, backward"))
        total.backward()
        mark("backward")


class PlainImages(Dataset[tuple[Tensor, Tensor]]):
    """Images ``ROOT/images`` and labels ``ROOT/labels`` of one domain, read and resized whenever they are drawn.

    Args:
        root: holds ``images`` and ``labels``, PNG files of the same names.
        size: ``(H, W)`` of the network's input.
        ids: the file value of every class.
    """

    def __init__(self, root: Path, size: tuple[int, int], ids: list[int]) -> None:
        self.images, self.labels = (sorted((root / kind).rglob("*.png")) for kind in ("images", "labels"))
        self.size, self.ids = size, ids

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = Image.open(self.images[index]).convert("RGB").resize(self.size[::-1], Image.Resampling.BICUBIC)
        stored = np.array(Image.open(self.labels[index]).resize(self.size[::-1], Image.Resampling.NEAREST))
        label = np.full(stored.shape, IGNORE, np.int64)
        for position, value in enumerate(self.ids):
            label[stored == value] = position
        pixels = (np.array(image, np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), torch.from_numpy(label)
