"""ClassMix: half of the classes of a source image, pasted into a target image."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ripu_lightning.data.dataset import IGNORE
from ripu_lightning.data.pools import TrainBatch


def class_mix(source: TrainBatch, target: TrainBatch, seed: int) -> TrainBatch:
    """Target images with source pixels of randomly chosen classes on top (Olsson et al., WACV 2021).

    Of each source image half of its classes are taken, rounded up; void pixels never. A source of another size is
    resized to the target's: all of it can be pasted, at the place in the view where it was seen.

    Args:
        source: ``image`` (B, 3, H, W), ``label`` (B, H, W).
        target: likewise, as many images.
        seed: which classes are drawn depends on it and on the labels alone.

    Returns:
        ``image`` of the target's size; ``label``: the source's where pasted, elsewhere the target's.
    """
    size = (target["label"].shape[-2], target["label"].shape[-1])
    image, label = _resized(source, size)
    pasted = _members(label, choose_classes(label, seed))
    return TrainBatch(
        image=torch.where(pasted[:, None], image, target["image"]),
        label=torch.where(pasted, label, target["label"]),
    )


def choose_classes(labels: Tensor, seed: int) -> Tensor:
    """Half of each image's classes, rounded up: ``(B, H, W)`` uint8 -> ``(B, 256)`` bool, never 255."""
    present = torch.zeros((len(labels), IGNORE + 1), dtype=torch.bool, device=labels.device)
    present.scatter_(1, labels.flatten(1).long(), True)
    present[:, IGNORE] = False
    # Drawn on the CPU, so that every device chooses the same.
    noise = torch.rand(present.shape, generator=torch.Generator().manual_seed(seed)).to(labels.device)
    order = noise.masked_fill(~present, torch.inf).argsort(dim=1).argsort(dim=1)
    return order < (present.sum(dim=1, keepdim=True) + 1) // 2


def _members(labels: Tensor, chosen: Tensor) -> Tensor:
    """Which pixels are of a chosen class: ``(B, H, W)`` bool."""
    return chosen.gather(1, labels.flatten(1).long()).reshape(labels.shape)


def _resized(batch: TrainBatch, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    image, label = batch["image"], batch["label"]
    if label.shape[-2:] == size:
        return image, label
    resized = interpolate(label[:, None].float(), size=size, mode="nearest-exact")[:, 0].to(label.dtype)
    return interpolate(image, size=size, mode="bilinear"), resized
