"""Any torch ``Dataset`` of images and masks as a data set of this library."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import IGNORE, SegmentationDataset, UInt8Array
from ripu_lightning.data.orientation import UPRIGHT, stated
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.untrusted import is_line


class Indexed(Protocol):
    """What is wrapped: ``dataset[index]`` and ``len(dataset)``."""

    def __getitem__(self, index: int, /) -> Any: ...

    def __len__(self) -> int: ...


def wrap_dataset(
    dataset: Indexed,
    classes: ClassMap | Sequence[str],
    ids: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
) -> SegmentationDataset:
    """Use a torch ``Dataset`` of ``(image, mask)``, or of images alone, for training, acquisition and evaluation.

    An image is a PIL image (RGB), an array ``(H, W, 3)`` uint8, or a tensor ``(3, H, W)``, uint8 or float in 0..1.
    A mask is a PIL image, an array or a tensor ``(H, W)`` of whole numbers: class indices ``0..C-1``, and 255 where
    ignored. ``dataset[index]`` must give the same sample whenever it is called: leave augmentation and normalisation to
    :class:`~ripu_lightning.data.ActiveDataModule`. Masks of other numbers are mapped first, for example by
    ``classes.lookup()[mask]``.

    Args:
        dataset: gives the samples; not empty.
        classes: names, or a class map.
        ids: unique names, by which the label store refers to the images; by default ``dataset.ids`` where there are
            any, else ``"000000"``, ``"000001"``, ... A ``/`` makes folders where masks are exported.
        size: ``(H, W)`` of all images; without it, each image is read once to find its size.

    Raises:
        InvalidArgument: no samples, or ids that are not unique names.
        UserError: a sample that is not an image and its mask.

    >>> image, mask = np.zeros((4, 6, 3), dtype=np.uint8), np.zeros((4, 6), dtype=np.uint8)
    >>> wrap_dataset([(image, mask)], ["road", "car"]).ids
    ['000000']
    """
    return WrappedDataset(dataset, classes, ids, size)


class WrappedDataset(SegmentationDataset):
    """See :func:`wrap_dataset`."""

    def __init__(
        self,
        dataset: Indexed,
        classes: ClassMap | Sequence[str],
        ids: Sequence[str] | None,
        size: tuple[int, int] | None,
    ) -> None:
        if not len(dataset):
            raise InvalidArgument("wrap_dataset", "dataset", "has no samples; expected 1 or more")
        self.classes = classes if isinstance(classes, ClassMap) else ClassMap.from_names(classes)
        self.ids = _require_ids(getattr(dataset, "ids", None) if ids is None else ids, len(dataset))
        self._dataset, self._size = dataset, size
        self._sizes: dict[int, tuple[int, int]] = {}
        self._last: tuple[int, Any] | None = None  # image, mask and size of a sample are often read one after another
        self.has_labels = self._sample(0)[1] is not None

    def image(self, index: int) -> UInt8Array:
        """RGB image ``(H, W, 3)`` uint8. Raises UserError where the sample has no such image."""
        image = _image(self._sample(index)[0], partial(self._fault, index))
        if self._size and image.shape[:2] != tuple(self._size):
            raise self._fault(
                index, f"the image is {image.shape[0]}x{image.shape[1]}, but wrap_dataset has size={self._size}"
            )
        self._sizes[index] = image.shape[:2]
        return image

    def label(self, index: int) -> UInt8Array:
        """Truth ``(H, W)`` uint8. Raises UserError where the sample has no such mask."""
        mask, size = _mask(self._sample(index)[1], partial(self._fault, index)), self.size(index)
        if mask.shape != size:
            raise self._fault(index, f"the mask is {mask.shape}, but its image is {size}; both must have one size")
        wrong = np.unique(mask[(mask != IGNORE) & ((mask < 0) | (mask >= len(self.classes)))])
        if wrong.size:
            raise self._fault(
                index,
                f"the mask holds {', '.join(map(str, wrong[:10]))}; "
                f"expected 0..{len(self.classes) - 1} for the classes, and {IGNORE} where ignored",
            )
        return mask.astype(np.uint8)

    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)`` of the image, which is read unless its size is known."""
        if self._size is not None:
            return self._size[0], self._size[1]
        if index not in self._sizes:
            self.image(index)
        return self._sizes[index]

    def check(self, labels: bool = True) -> None:
        """See :class:`SegmentationDataset`."""
        for index in range(len(self)):
            self.image(index)
            if labels and self.has_labels:
                self.label(index)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def _sample(self, index: int) -> tuple[Any, Any]:
        """Image and mask as the data set gives them; the mask is None where it gives images alone."""
        last = self._last
        if last is None or last[0] != index:
            sample = self._dataset[index]
            parts = tuple(sample) if isinstance(sample, (tuple, list)) else (sample, None)
            if len(parts) != 2:
                raise self._fault(index, f"the sample has {len(parts)} parts; expected an image, or (image, mask)")
            self._last = last = index, parts
        return last[1]

    def _fault(self, index: int, problem: str) -> UserError:
        return UserError(f"{type(self._dataset).__name__}, image {self.ids[index]}: {problem}")


def _require_ids(ids: Sequence[str] | None, count: int) -> list[str]:
    names = [f"{index:06d}" for index in range(count)] if ids is None else list(ids)
    if len(names) != count:
        raise InvalidArgument("wrap_dataset", "ids", f"must be one for each of the {count} samples, got {len(names)}")
    for name in names:
        # The label store exports masks under these names, as files and folders.
        if not isinstance(name, str) or not is_line(name) or {"", ".", ".."} & {*name.replace("\\", "/").split("/")}:
            raise InvalidArgument("wrap_dataset", "ids", f"must be names of files, such as 'a/001', got {name!r}")
    if len(set(names)) != count:
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument("wrap_dataset", "ids", f"must be unique, but {twice!r} is given twice")
    return names


def _image(image: Any, fault: Callable[[str], UserError]) -> UInt8Array:
    if isinstance(image, Image.Image):
        if (found := stated(image)) != UPRIGHT:
            raise fault(f"the image has the EXIF orientation {found}; turn it by PIL.ImageOps.exif_transpose")
        if image.mode != "RGB":
            raise fault(f"the PIL image has mode {image.mode}; expected RGB: convert it")
        return np.array(image)
    if isinstance(image, Tensor):
        image = image.numpy(force=True)
        if image.ndim == 3:
            image = image.transpose(1, 2, 0)
        if image.dtype.kind == "f":
            if not (image.min() >= 0 and image.max() <= 1):  # also not a number
                raise fault("the image is a float tensor outside 0..1; leave normalisation to ActiveDataModule")
            image = (image * 255).round().astype(np.uint8)
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise fault(
            f"the image is {_described(image)}; expected RGB: uint8 (H, W, 3), a tensor (3, H, W) or a PIL image"
        )
    return np.ascontiguousarray(image)


def _mask(mask: Any, fault: Callable[[str], UserError]) -> npt.NDArray[np.integer]:
    if mask is None:
        raise fault("it has no mask; its data set has no labels")
    if isinstance(mask, Image.Image):
        if (found := stated(mask)) != UPRIGHT:
            raise fault(f"the mask has the EXIF orientation {found}; make it fit its image and leave out the EXIF")
        mask = np.array(mask)
    elif isinstance(mask, Tensor):
        mask = mask.numpy(force=True)
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "iu" or mask.ndim != 2:
        raise fault(f"the mask is {_described(mask)}; expected whole numbers (H, W): an array, a tensor or a PIL image")
    return mask


def _described(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"of type {type(value).__name__}"
