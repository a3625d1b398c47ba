"""Augmentation and normalisation of images at the network's size. Only this file imports albumentations."""

import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network for a newer version on import

import albumentations as A
import numpy as np
import torch
from torch import Tensor

from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.errors import InvalidArgument, UserError, suggest

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet statistics of RGB images in 0..1."""
_OWNER = "ActiveDataModule"


class Transform:
    """Augment, normalise, and convert to tensors.

    Args:
        augment: a list of names and albumentations transforms, or a callable. Names: ``flip`` (horizontal), ``scale``
            (zoom in by up to 2, shift by up to a quarter and crop), ``color`` (brightness, contrast, saturation and a
            little hue) and ``blur`` (Gaussian, of half of the images); the published recipe uses none. Callable: an
            albumentations transform, a ``torchvision.transforms.v2`` transform, or a function that takes and returns
            an image ``(H, W, 3)`` and a mask ``(H, W)``, both uint8. It runs with albumentations, ``random``,
            ``numpy.random`` and torch seeded for the sample. What albumentations and torchvision fill in from outside
            the image is ignored in the mask, whatever value they fill in.
        mean: of each RGB channel in 0..1, subtracted; None subtracts nothing.
        std: each channel is divided by it then; None divides by nothing.
        classes: number of classes; masks hold ``0..classes-1`` and 255.
        strong: likewise, for a second view of the augmented image; it changes colours and moves no pixel.

    Raises:
        InvalidArgument: an unknown augmentation, or a mean or std that is not three numbers.
    """

    def __init__(
        self,
        augment: Sequence[str] | Callable[..., Any] = (),
        mean: Sequence[float] | None = MEAN,
        std: Sequence[float] | None = STD,
        classes: int = IGNORE,
        strong: Sequence[str] | Callable[..., Any] = (),
    ) -> None:
        self._augment, self._strong = _augmentation(augment), _augmentation(strong, "strong_augment")
        self._normalize = A.Normalize(mean=_channels("mean", mean, 0.0), std=_channels("std", std, 1.0))
        self._classes = classes

    def __call__(self, image: UInt8Array, mask: UInt8Array, seed: int) -> tuple[Tensor, ...]:
        """Apply to one sample.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            mask: ``(H, W)`` uint8, 255 ignored.
            seed: the sample's own seed; the same seed gives the same augmentation in any worker.

        Returns:
            image ``(3, H, W)`` float32 and mask ``(H, W)`` uint8; with ``strong`` its view first, then the mask, then
            the view without it.

        Raises:
            UserError: the augmentation returned something else than an image and its mask, or ``strong`` moved pixels.
        """
        if self._augment is not None:
            image, mask = _require_sample(self._augment(image, mask, seed), self._classes)
        label = torch.from_numpy(np.ascontiguousarray(mask))
        if self._strong is None:
            return self._normalized(image), label
        strong, moved = _require_sample(self._strong(image, mask, seed), self._classes)
        if not np.array_equal(moved, mask):
            raise UserError(f"{_OWNER}: strong_augment must not move pixels; change colours only")
        return self._normalized(strong), label, self._normalized(image)

    def _normalized(self, image: UInt8Array) -> Tensor:
        pixels = self._normalize(image=image)["image"].transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))


_AUGMENTATIONS = {
    "flip": lambda: A.HorizontalFlip(p=0.5),
    "scale": lambda: A.Affine(
        scale=(1.0, 2.0), keep_ratio=True, translate_percent=(-0.25, 0.25), p=0.7, fill_mask=IGNORE
    ),
    "color": lambda: A.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05, p=0.8),
    "blur": lambda: A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 1.0), p=0.5),
}


def _augmentation(augment: Sequence[str] | Callable[..., Any], argument: str = "augment") -> Callable[..., Any] | None:
    """A picklable function of image, mask and seed; None where nothing is augmented."""
    if callable(augment):
        if isinstance(augment, (A.BasicTransform, A.BaseCompose)):
            return partial(_albumentations, A.Compose([augment], additional_targets={"probe": "mask"}))
        v2 = sys.modules.get("torchvision.transforms.v2")  # imported already where the callable is one of its own
        return partial(_torchvision if v2 and isinstance(augment, v2.Transform) else _function, augment)
    if isinstance(augment, str) or not isinstance(augment, Sequence):
        raise InvalidArgument(_OWNER, argument, f"must be a list such as ['flip'], or a callable, got {augment!r}")
    steps = []
    for each in augment:
        if not isinstance(each, (A.BasicTransform, A.BaseCompose)) and each not in _AUGMENTATIONS:
            raise InvalidArgument(_OWNER, argument, f"has no {each!r}; {suggest(str(each), _AUGMENTATIONS)}")
        steps.append(_AUGMENTATIONS[each]() if isinstance(each, str) else each)
    return partial(_albumentations, A.Compose(steps, additional_targets={"probe": "mask"})) if steps else None


def _albumentations(pipeline: Any, image: UInt8Array, mask: UInt8Array, seed: int) -> tuple[Any, Any]:
    pipeline.set_random_seed(seed % 2**32)
    result = pipeline(image=image, mask=mask, probe=np.full_like(mask, IGNORE))
    return result["image"], _ignore_outside(result["mask"], result["probe"])


def _torchvision(transform: Any, image: UInt8Array, mask: UInt8Array, seed: int) -> tuple[Any, Any]:
    from torchvision import tv_tensors

    pixels = tv_tensors.Image(torch.from_numpy(image.transpose(2, 0, 1).copy()))
    masks = [tv_tensors.Mask(torch.from_numpy(each)) for each in (mask.copy(), np.full_like(mask, IGNORE))]
    with _seeded(seed):
        pixels, *masks = transform(pixels, *masks)
    labels, probe = (each.numpy() for each in masks)
    return pixels.numpy().transpose(1, 2, 0), _ignore_outside(labels, probe)


def _function(transform: Callable[..., Any], image: UInt8Array, mask: UInt8Array, seed: int) -> tuple[Any, Any]:
    with _seeded(seed):
        found = transform(image.copy(), mask.copy())
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise _wrong(f"return (image, mask), it returned a {type(found).__name__}")
    return found[0], found[1]


def _wrong(problem: str) -> UserError:
    # Not InvalidArgument: torch raises an error of a worker again with one argument, its text.
    return UserError(f"{_OWNER}: augment must {problem}")


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global random generators for a block, and restore them after it."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - a user's function may draw from it
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which reaches the GPUs too
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _ignore_outside(mask: Any, probe: Any) -> Any:
    """Ignore the pixels that a transform filled: there a probe, a mask that is ignored everywhere, holds another value.

    Most transforms fill masks with 0 by default: pixels from outside the image would get the first class.
    """
    return np.where(probe == IGNORE, mask, np.uint8(IGNORE))


def _require_sample(sample: tuple[Any, Any], classes: int) -> tuple[UInt8Array, UInt8Array]:
    image, mask = sample
    for array, shape in ((image, "(H, W, 3)"), (mask, "(H, W)")):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
            kind = getattr(array, "dtype", type(array).__name__)
            raise _wrong(f"return uint8 arrays {shape}, it returned {kind}; leave normalisation to mean and std")
    if mask.ndim != 2 or image.shape != (*mask.shape, 3):
        raise _wrong(f"return (H, W, 3) and (H, W), it returned an image {image.shape} and a mask {mask.shape}")
    if wrong := np.unique(mask[(mask >= classes) & (mask != IGNORE)])[:5].tolist():
        raise _wrong(f"keep masks of 0..{classes - 1} and {IGNORE}, it returned {wrong}")
    return image, mask


def _channels(argument: str, values: Sequence[float] | None, default: float) -> tuple[float, ...]:
    channels = (default,) * 3 if values is None else values
    numbers = isinstance(channels, Sequence) and all(isinstance(value, (int, float)) for value in channels)
    if not numbers or len(channels) != 3 or (argument == "std" and min(channels) <= 0):
        above = " above 0" if argument == "std" else ""
        raise InvalidArgument(_OWNER, argument, f"must be three numbers{above} or None, got {values!r}")
    return tuple(map(float, channels))
