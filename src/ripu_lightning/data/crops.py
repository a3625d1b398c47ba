"""Random crops of training images and masks: the scale, the place, and what lies outside the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from ripu_lightning.data.dataset import IGNORE, UInt8Array
from ripu_lightning.data.prepared import parse_size
from ripu_lightning.data.resizing import resize_mask
from ripu_lightning.errors import InvalidArgument, require_choice

OWNER = "ActiveDataModule"
At = Literal["uniform", "labelled", "class_aware"]
Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class RandomCrop:
    """Scale an image and its mask by one random factor, then cut out a part of a fixed size.

    Of the image, only the part is resized: bilinear, antialiased where it shrinks. The mask is resized by nearest. An
    image that is smaller than the crop is complete inside it, at a random place. Around it the image has one colour
    and the mask 255. With a factor of 1, pixels and labels are copies.

    Args:
        size: ``(h, w)`` of the crop.
        scale_range: smallest and largest factor; it is drawn uniformly between them.
        at: ``uniform``: every place inside the image is equally likely. ``labelled``: the crop contains a pixel that is
            drawn uniformly from those that are not 255. ``class_aware``: it contains a pixel of a class that is drawn
            from the classes in the image, with probabilities proportional to ``class_weights``. The drawn pixel may be
            anywhere in the crop; a mask that is 255 everywhere is cropped uniformly.
        fill: RGB colour around an image that is smaller than the crop.
        class_weights: ``(C,)``, above 0, for ``class_aware``; None: all equal.
    """

    size: Size
    scale_range: tuple[float, float] = (1.0, 1.0)
    at: At = "uniform"
    fill: tuple[int, ...] = (0, 0, 0)
    class_weights: npt.NDArray[np.float64] | None = None

    def __call__(self, image: UInt8Array, mask: UInt8Array, seed: int) -> tuple[UInt8Array, UInt8Array]:
        """Crop one sample.

        Args:
            image: ``(H, W, 3)`` uint8 RGB.
            mask: ``(H, W)`` uint8, 255 ignored.
            seed: the sample's own seed.

        Returns:
            ``(h, w, 3)`` and ``(h, w)`` uint8.
        """
        random = np.random.default_rng(seed)
        factor = random.uniform(*self.scale_range)
        scaled = _scaled(mask.shape[0], factor), _scaled(mask.shape[1], factor)
        labels = mask if scaled == mask.shape else resize_mask(mask, scaled)
        pixel = self._pixel(labels, random)
        top, left = (
            _offset(length, crop, random, None if pixel is None else pixel[axis])
            for axis, (length, crop) in enumerate(zip(scaled, self.size, strict=True))
        )
        rows, columns = _visible(top, self.size[0], scaled[0]), _visible(left, self.size[1], scaled[1])
        part = _resized_part(image, scaled, rows, columns)
        if part.shape[:2] == self.size:
            return part, labels[rows, columns]
        pixels = np.full((*self.size, 3), self.fill, dtype=np.uint8)
        padded = np.full(self.size, IGNORE, dtype=np.uint8)
        here = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
        pixels[here], padded[here] = part, labels[rows, columns]
        return pixels, padded

    def _pixel(self, labels: UInt8Array, random: np.random.Generator) -> tuple[int, int] | None:
        """``(row, column)`` of the pixel that must be in the crop; None where any crop will do."""
        if self.at == "uniform":
            return None
        if self.at == "labelled":
            found = np.flatnonzero(labels != IGNORE)
        else:
            present = np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORE + 1)[:IGNORE])
            if not present.size:
                return None
            weights = np.ones(len(present)) if self.class_weights is None else self.class_weights[present]
            found = np.flatnonzero(labels == random.choice(present, p=weights / weights.sum()))
        if not found.size:
            return None
        row, column = divmod(int(random.choice(found)), labels.shape[1])
        return row, column


def parse_crops(
    sizes: Mapping[str, Sequence[int] | None],
    places: Mapping[str, str],
    scale_range: Sequence[float],
    mean: Sequence[float] | None,
) -> dict[str, RandomCrop | None]:
    """The crops of both domains from the arguments of :class:`~ripu_lightning.data.ActiveDataModule`.

    Args:
        sizes: ``source_crop`` and ``target_crop`` by domain, and ``crop``, of a domain that has none of its own.
        places: ``source_crop_at`` and ``target_crop_at`` by domain.
        scale_range: of both.
        mean: what normalisation subtracts; images are filled with it.

    Raises:
        InvalidArgument: a value out of range, or one that has no effect without a crop.
    """
    choices = {"source": ("uniform", "class_aware"), "target": ("uniform", "labelled")}
    factors, fill = _parse_scale_range(scale_range), tuple(round(255 * value) for value in mean or (0.0,) * 3)
    crops: dict[str, RandomCrop | None] = {}
    common = parse_size("crop", sizes["crop"])
    for domain, known in choices.items():
        size, at = parse_size(f"{domain}_crop", sizes[domain]) or common, places[domain]
        require_choice(OWNER, f"{domain}_crop_at", at, known)
        if size is None and at != "uniform":
            raise InvalidArgument(
                OWNER, f"{domain}_crop_at", f"is {at!r}, but there is no crop; set crop or {domain}_crop"
            )
        crops[domain] = None if size is None else RandomCrop(size, factors, cast(At, at), fill)
    if factors != (1, 1) and not any(crops.values()):
        raise InvalidArgument(OWNER, "scale_range", f"is {scale_range!r}, but there is no crop; set crop")
    return crops


def _parse_scale_range(scale_range: Sequence[float]) -> tuple[float, float]:
    valid = isinstance(scale_range, Sequence) and len(scale_range) == 2
    valid = valid and all(isinstance(factor, (int, float)) and not isinstance(factor, bool) for factor in scale_range)
    if not valid or not 0 < scale_range[0] <= scale_range[1] < np.inf:
        problem = f"must be [smallest, largest] factor, both above 0, got {scale_range!r}"
        raise InvalidArgument(OWNER, "scale_range", problem)
    return float(scale_range[0]), float(scale_range[1])


def inverse_frequency(pixels: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weights ``(C,)`` of classes from the pixels ``(N, C)`` of each class in each image: 1 / share of all pixels.

    >>> inverse_frequency(np.array([[6, 1], [2, 1]])).tolist()
    [1.25, 5.0]
    """
    total = pixels.sum(axis=0)
    weights: npt.NDArray[np.float64] = total.sum() / np.maximum(total, 1)
    return weights


def _scaled(length: int, factor: float) -> int:
    return max(1, round(length * factor))


def _offset(length: int, crop: int, random: np.random.Generator, pixel: int | None) -> int:
    """Where the crop begins on one axis; below 0 where the image is smaller, and above its end never."""
    first, last = min(0, length - crop), max(0, length - crop)
    if pixel is not None:
        first, last = max(first, pixel - crop + 1), min(last, pixel)
    return int(random.integers(first, last + 1))


def _visible(start: int, crop: int, length: int) -> slice:
    return slice(max(start, 0), min(start + crop, length))


def _resized_part(image: UInt8Array, size: Size, rows: slice, columns: slice) -> UInt8Array:
    """``resized[rows, columns]`` of the image at another ``size``, where only this part is computed."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return image[rows, columns]
    down, across = height / size[0], width / size[1]
    # Pillow looks beyond the box where its filter reaches there, so that the part is that of the complete image.
    box = columns.start * across, rows.start * down, columns.stop * across, rows.stop * down
    box = box[0], box[1], min(box[2], width), min(box[3], height)
    part = Image.fromarray(image).resize(
        (columns.stop - columns.start, rows.stop - rows.start), Image.Resampling.BILINEAR, box=box
    )
    return np.array(part)
