"""Views of a data set for the three pools and for evaluation: what a DataLoader's worker runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.data.prepared import Resized
from ripu_lightning.data.transforms import Transform
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.seeding import derive_seed

MaskReader = Callable[[int], UInt8Array]
"""Index of an image -> its mask ``(h, w)`` uint8 at the network's size: the truth, what was bought, or nothing yet."""
Segmenter = Callable[[UInt8Array, str], Tensor]
"""An RGB image ``(H, W, 3)`` uint8 and its id -> the region of each pixel, ``(H, W)`` int64."""


class TrainBatch(TypedDict):
    """One domain's part of a training step: ``image`` (B, 3, H, W) float32, ``label`` (B, H, W) uint8."""

    image: Tensor
    label: Tensor


class TrainPool(Dataset[tuple[Tensor, Tensor]]):
    """Training samples, addressed by ``(index, draw)``; ``draw`` seeds the augmentation."""

    def __init__(self, pictures: Resized, masks: MaskReader, transform: Transform, seed: int, purpose: str) -> None:
        self._pictures, self._masks, self._transform = pictures, masks, transform
        self._seed, self._purpose = seed, purpose

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        index, draw = key
        seed = derive_seed(self._seed, self._purpose, "augment", draw)
        return self._transform(self._pictures.image(index), self._masks(index), seed)


class BoughtMasks:
    """Masks of what was bought in rounds 1..through, at the network's size."""

    def __init__(self, target: Resized, store: LabelStore | None, through: int) -> None:
        self._target, self._store, self._through = target, store, through

    def __call__(self, index: int) -> UInt8Array:
        """The mask ``(h, w)`` uint8 of one image."""
        return self._target.resize_mask(self._own_size(index))

    def _own_size(self, index: int) -> UInt8Array:
        dataset = self._target.dataset
        if self._store is None or not self._through:
            return np.full(dataset.size(index), IGNORE, dtype=np.uint8)
        return self._store.mask(dataset.ids[index], self._through)


@dataclass  # not frozen: Lightning converts its tensors in place where a precision asks for it
class EvalBatch:
    """Whole images to predict: inputs at the network's size, truth (where read) at the label's own.

    Attributes:
        image: ``(B, 3, h, w)`` float32.
        indices: positions in the data set.
        ids: image ids.
        sizes: ``(H, W)`` of each label.
        labels: ``(H, W)`` uint8 each; empty where the truth is not read (acquisition).
        regions: ``(H, W)`` int64 each; empty where nobody asked for regions.
    """

    image: Tensor
    indices: list[int]
    ids: list[str]
    sizes: list[tuple[int, int]]
    labels: list[Tensor]
    regions: list[Tensor]

    def to(self, device: torch.device | str) -> "EvalBatch":
        """The batch on another device."""
        labels = [label.to(device, non_blocking=True) for label in self.labels]
        regions = [each.to(device, non_blocking=True) for each in self.regions]
        image = self.image.to(device, non_blocking=True)
        return EvalBatch(image, self.indices, self.ids, self.sizes, labels, regions)

    def pin_memory(self) -> "EvalBatch":
        """The batch in page-locked memory (called by the DataLoader)."""
        labels = [label.pin_memory() for label in self.labels]
        regions = [each.pin_memory() for each in self.regions]
        return EvalBatch(self.image.pin_memory(), self.indices, self.ids, self.sizes, labels, regions)


class EvalPool(Dataset[EvalBatch]):
    """Whole images, each exactly once; the truth is opened only where ``with_labels`` is set."""

    def __init__(
        self,
        pictures: Resized,
        transform: Transform,
        with_labels: bool,
        segment: Segmenter | None = None,
    ) -> None:
        self._pictures, self._transform, self._with_labels, self._segment = pictures, transform, with_labels, segment

    def __getitem__(self, index: int) -> EvalBatch:
        picture, dataset = self._pictures.image(index), self._pictures.dataset
        image, _ = self._transform(picture, np.full(picture.shape[:2], IGNORE, dtype=np.uint8), seed=0)
        labels = [torch.from_numpy(dataset.label(index))] if self._with_labels else []
        image_id = dataset.ids[index]
        # Regions are of the image itself: they are asked, answered and stored at its own resolution.
        regions = [self._segment(dataset.image(index), image_id)] if self._segment else []
        return EvalBatch(image[None], [index], [image_id], [dataset.size(index)], labels, regions)


def collate_train(samples: Sequence[tuple[Tensor, Tensor]]) -> TrainBatch:
    """Stack samples of one size; raises :class:`UserError` where they differ."""
    images, labels = zip(*samples, strict=True)
    _require_one_size(images)
    return TrainBatch(image=torch.stack(images), label=torch.stack(labels))


def collate_eval(samples: Sequence[EvalBatch]) -> EvalBatch:
    """Stack inputs of one size; labels stay a list, because their own sizes may differ. No samples, an empty batch."""
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
            f"data: images of {' and '.join(sizes)} (height x width) can not be batched; "
            "set data.source_size and data.target_size, or batch sizes of 1"
        )
