"""What a DataLoader's worker runs: training samples of each pool, evaluation images, and their batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ripu_lightning.data.crops import RandomCrop
from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.data.prepared import Resized
from ripu_lightning.data.transforms import Transform
from ripu_lightning.errors import UserError
from ripu_lightning.labels import QueriedLabels
from ripu_lightning.seeding import derive_seed

MaskReader = Callable[[int], UInt8Array]
"""Index of an image -> its mask ``(h, w)`` uint8 at the network's size: the truth, or the labels queried so far."""
Segmenter = Callable[[UInt8Array, str], Tensor]
"""An RGB image ``(H, W, 3)`` uint8 and its id -> the region of each pixel, ``(H, W)`` int64."""


class _Sample(TypedDict):
    image: Tensor
    label: Tensor


class TrainBatch(_Sample, total=False):
    """One domain's part of a training step.

    Attributes:
        image: ``(B, 3, H, W)`` float32; with ``strong_augment`` the strong view of target images.
        label: ``(B, H, W)`` uint8.
        weak: ``(B, 3, H, W)`` float32, the view for the teacher, only with ``strong_augment``.
    """

    weak: Tensor


class TrainPool(Dataset[tuple[Tensor, ...]]):
    """Training samples, addressed by ``(index, draw)``; ``draw`` seeds the crop and the augmentation."""

    def __init__(
        self,
        images: Resized,
        masks: MaskReader,
        crop: RandomCrop | None,
        transform: Transform,
        seed: int,
        purpose: str,
    ) -> None:
        self._images, self._masks, self._crop, self._transform = images, masks, crop, transform
        self._seed, self._purpose = seed, purpose

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, ...]:
        index, draw = key
        image, mask = self._images.image(index), self._masks(index)
        if self._crop:  # before the augmentation, which then costs the crop alone
            image, mask = self._crop(image, mask, derive_seed(self._seed, self._purpose, "crop", draw))
        return self._transform(image, mask, derive_seed(self._seed, self._purpose, "augment", draw))


class QueriedMasks:
    """The labels of a stage as masks at the network's size."""

    def __init__(self, target: Resized, labels: QueriedLabels) -> None:
        self._target, self._labels = target, labels
        self._known = frozenset(labels.image_ids)

    def __call__(self, index: int) -> UInt8Array:
        """The mask ``(h, w)`` uint8 of one image; 255 where it has no label."""
        image_id = self._target.dataset.ids[index]
        if image_id in self._known:
            return self._target.resize_mask(self._labels.mask(image_id))
        return np.full(self._target.size or self._target.dataset.size(index), IGNORE, dtype=np.uint8)


@dataclass  # not frozen: Lightning converts its tensors in place where a precision asks for it
class EvalBatch:
    """Complete images to predict: inputs at the network's size, truth (where it is read) at the label's own size.

    Attributes:
        image: ``(B, 3, h, w)`` float32.
        indices: positions in the data set.
        ids: image ids.
        sizes: ``(H, W)`` of each label.
        labels: ``(H, W)`` uint8 each; empty where the truth is not read (acquisition).
        regions: ``(H, W)`` int64 each; empty where no regions are needed.
    """

    image: Tensor
    indices: list[int]
    ids: list[str]
    sizes: list[tuple[int, int]]
    labels: list[Tensor]
    regions: list[Tensor]

    def to(self, device: torch.device | str) -> "EvalBatch":
        """The batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "EvalBatch":
        """The batch in page-locked memory (called by the DataLoader)."""
        return self._map(Tensor.pin_memory)

    def _map(self, move: Callable[[Tensor], Tensor]) -> "EvalBatch":
        return replace(
            self, image=move(self.image), labels=[*map(move, self.labels)], regions=[*map(move, self.regions)]
        )


class EvalPool(Dataset[EvalBatch]):
    """Complete images, each exactly once; the truth is read only where ``with_labels`` is set."""

    def __init__(
        self, images: Resized, transform: Transform, with_labels: bool, segment: Segmenter | None = None
    ) -> None:
        self._images, self._transform, self._with_labels, self._segment = images, transform, with_labels, segment

    def __getitem__(self, index: int) -> EvalBatch:
        pixels, dataset = self._images.image(index), self._images.dataset
        image, _ = self._transform(pixels, np.full(pixels.shape[:2], IGNORE, dtype=np.uint8), seed=0)
        labels = [torch.from_numpy(dataset.label(index))] if self._with_labels else []
        image_id = dataset.ids[index]
        # Regions are of the image itself: they are queried, answered and stored at its own resolution.
        regions = [self._segment(dataset.image(index), image_id)] if self._segment else []
        return EvalBatch(image[None], [index], [image_id], [dataset.size(index)], labels, regions)


def collate_train(samples: Sequence[tuple[Tensor, ...]]) -> TrainBatch:
    """Stack samples of one size; raises :class:`UserError` where they differ."""
    images, labels, *weak = zip(*samples, strict=True)
    _require_one_size(images)
    batch = TrainBatch(image=torch.stack(images), label=torch.stack(labels))
    if weak:
        batch["weak"] = torch.stack(weak[0])
    return batch


def collate_eval(samples: Sequence[EvalBatch]) -> EvalBatch:
    """Stack inputs of one size; labels stay a list, because their sizes may differ. Without samples, an empty batch."""
    _require_one_size([sample.image[0] for sample in samples])
    return EvalBatch(
        image=torch.cat([torch.empty(0), *(sample.image for sample in samples)]),
        indices=[index for sample in samples for index in sample.indices],
        ids=[image_id for sample in samples for image_id in sample.ids],
        sizes=[size for sample in samples for size in sample.sizes],
        labels=[label for sample in samples for label in sample.labels],
        regions=[each for sample in samples for each in sample.regions],
    )


def _require_one_size(images: Sequence[Tensor]) -> None:
    sizes = sorted({f"{image.shape[1]}x{image.shape[2]}" for image in images})
    if len(sizes) > 1:
        raise UserError(
            f"ActiveDataModule: images of {' and '.join(sizes)} (height x width) cannot be batched; "
            "set source_size and target_size, or batch_size=1 and eval_batch_size=1"
        )
