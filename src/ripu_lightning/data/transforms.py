"""Transforms from pictures of the network's size to its inputs. The only file that imports albumentations."""

import os
from collections.abc import Sequence

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version on import

import albumentations as A
import cv2
import numpy as np
import torch
from torch import Tensor

from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.errors import UserError, suggest

cv2.setNumThreads(0)  # workers are the parallelism; nested threads only fight for cores

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB images in 0..1."""


class Transform:
    """Augment if asked, normalise, to tensors.

    Args:
        augment: any of ``flip`` (horizontal), ``scale`` (zoom in by up to 2, shift by up to a quarter and crop; what
            lies outside the image is black and ignored) and ``color`` (brightness, contrast, saturation and a little
            hue); empty in the published recipe.

    Raises:
        UserError: an unknown augmentation, or no list of them.
    """

    def __init__(self, augment: Sequence[str] = ()) -> None:
        if isinstance(augment, str):
            raise UserError(f"data.augment: expected a list such as [flip], got {augment!r}")
        steps: list[A.BasicTransform] = []
        for name in augment:
            if name not in _AUGMENTATIONS:
                raise UserError(f"data.augment: no augmentation {name!r}; {suggest(name, _AUGMENTATIONS)}")
            steps.append(_AUGMENTATIONS[name]())
        self._pipeline = A.Compose([*steps, A.Normalize(mean=MEAN, std=STD)])

    def __call__(self, image: UInt8Array, mask: UInt8Array, seed: int) -> tuple[Tensor, Tensor]:
        """Apply to one sample.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            mask: ``(H, W)`` uint8, 255 ignored.
            seed: the sample's own seed; the same seed gives the same augmentation in any worker.

        Returns:
            ``(3, H, W)`` float32 and ``(H, W)`` uint8.
        """
        self._pipeline.set_random_seed(seed % 2**32)
        result = self._pipeline(image=image, mask=mask)
        pixels = np.ascontiguousarray(result["image"].transpose(2, 0, 1), dtype=np.float32)
        return torch.from_numpy(pixels), torch.from_numpy(np.ascontiguousarray(result["mask"], dtype=np.uint8))


_AUGMENTATIONS = {
    "flip": lambda: A.HorizontalFlip(p=0.5),
    "scale": lambda: A.Affine(
        scale=(1.0, 2.0), keep_ratio=True, translate_percent=(-0.25, 0.25), p=0.7, fill_mask=IGNORE
    ),
    "color": lambda: A.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, p=0.8),
}
