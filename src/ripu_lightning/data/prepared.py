"""Pictures and masks at the network's size: resized when they are read, or ahead of time by ``ripu-data prepare``."""

import io
import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import PIL
import torch
from PIL import Image
from pytorch_lightning.utilities import rank_zero_warn

from ripu_lightning.data.cache import DataCache, read_whole, write_whole
from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.data.reading import LARGEST, verify
from ripu_lightning.data.resizing import RESIZE_VERSION, resize_image, resize_mask
from ripu_lightning.data.workers import work_through
from ripu_lightning.errors import UserError
from ripu_lightning.labels.png import path_of
from ripu_lightning.untrusted import read_bounded

Kind = Literal["images", "labels"]
Size = tuple[int, int]


class Resized:
    """A view of a data set at the network's size; prepared files stand in for resizing where they are complete.

    One that is damaged since is told, and done without.

    Args:
        dataset: what is viewed.
        size: ``(H, W)``; None leaves everything as it is.
        cache: where prepared files may lie.
    """

    def __init__(self, dataset: SegmentationDataset, size: Size | None, cache: DataCache) -> None:
        self.dataset, self.size = dataset, size
        # Looked up here and not in each worker: a fingerprint may take a second.
        place = cache.place(dataset) if size else None
        self._images = _complete(dataset, "images", size, place)
        # Prepared labels may be there for a view that hides them, if the same tree is a source elsewhere.
        self._labels = _complete(dataset, "labels", size, place) if dataset.has_labels else None

    def image(self, index: int) -> UInt8Array:
        """RGB image ``(h, w, 3)`` uint8. Raises UserError if the file can not be used."""
        return _prepared(self._images, index, lambda: self._resize_image(self.dataset.image(index)))

    def label(self, index: int) -> UInt8Array:
        """Truth ``(h, w)`` uint8; likewise."""
        return _prepared(self._labels, index, lambda: self.resize_mask(self.dataset.label(index)))

    def resize_mask(self, mask: UInt8Array) -> UInt8Array:
        """A mask ``(H, W)`` uint8 of the data set's own size, at the network's size ``(h, w)``."""
        return resize_mask(mask, self.size) if self.size else mask

    def _resize_image(self, image: UInt8Array) -> UInt8Array:
        return resize_image(image, self.size) if self.size else image


class PreparedFolder:
    """All images or all labels of a data set at one size: ``PLACE/HxW-RELEASES/images/ID.png``, whole once
    ``images.json`` is there beside the folder.

    Each set of library releases has a folder of its own: batches would otherwise differ from those resized on the fly.

    Args:
        dataset: what is prepared.
        kind: ``images`` or ``labels``.
        size: ``(H, W)``.
        place: the data set's folder in the cache.
    """

    def __init__(self, dataset: SegmentationDataset, kind: Kind, size: Size, place: Path) -> None:
        self._dataset, self._kind, self._size = dataset, kind, size
        self.folder = place / f"{size[0]}x{size[1]}-{sha256(_releases()).hexdigest()[:8]}" / kind
        self._manifest = self.folder.with_suffix(".json")

    @property
    def complete(self) -> bool:
        """Whether every file has been written."""
        return read_whole(self._manifest) is not None

    def read(self, index: int) -> UInt8Array:
        """One array as it was prepared.

        Raises:
            UserError: the file is missing, damaged or of another size.
        """
        path = self._path(index)
        try:
            content = io.BytesIO(read_bounded(path, LARGEST))
            with Image.open(content, formats=["PNG"]) as picture:
                shape = (picture.height, picture.width, len(picture.getbands()))
                if shape[: len(self._shape)] == self._shape:  # or else it is not even decoded
                    verify(content.getvalue())
                    return np.array(picture, dtype=np.uint8)
        except Exception as error:  # a damaged file makes the decoder raise nearly anything
            raise UserError(
                f"{path}: prepared file can not be read ({' '.join(str(error).split())}); {_MEND}"
            ) from error
        raise UserError(f"{path}: prepared file is {shape}, expected {self._shape}; {_MEND}")

    def prepare(self, workers: int, title: str) -> int:
        """Write what is missing, in processes, and then the manifest.

        Args:
            workers: number of processes; 0 writes in this one.
            title: of the progress bar.

        Returns:
            The number of files that were written; 0 where all were there.

        Raises:
            UserError: an image or label that can not be used, or a file that can not be written.
        """
        missing = [index for index in range(len(self._dataset)) if not self._path(index).is_file()]
        if missing:
            for fault in work_through(self._write, missing, workers, title):
                if fault:
                    raise UserError(fault)
        if not self.complete:
            write_whole(self._manifest, _releases())
        return len(missing)

    @property
    def _shape(self) -> tuple[int, ...]:
        return (*self._size, 3) if self._kind == "images" else self._size

    def _path(self, index: int) -> Path:
        return path_of(self.folder, self._dataset.ids[index])

    def _write(self, index: int) -> str | None:
        try:
            if self._kind == "images":
                array = resize_image(self._dataset.image(index), self._size)
            else:
                array = resize_mask(self._dataset.label(index), self._size)
            buffer = io.BytesIO()
            Image.fromarray(array).save(buffer, "PNG", compress_level=1)  # read far more often than written
            write_whole(self._path(index), buffer.getvalue())
        except UserError as error:
            return str(error)
        return None


def parse_size(key: str, value: Iterable[int] | None) -> Size | None:
    """``(height, width)`` from a config's value. Raises UserError, naming ``data.KEY``."""
    if value is None:
        return None
    size = tuple(value) if isinstance(value, Iterable) else (value,)
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise UserError(f"data.{key}: expected [height, width], got {value}")
    return size[0], size[1]


def _complete(dataset: SegmentationDataset, kind: Kind, size: Size | None, place: Path | None) -> PreparedFolder | None:
    folder = PreparedFolder(dataset, kind, size, place) if size and place else None
    return folder if folder and folder.complete else None


def _prepared(folder: PreparedFolder | None, index: int, make: Callable[[], UInt8Array]) -> UInt8Array:
    """The prepared array; without one, or in place of a damaged one, the array as it is made."""
    try:
        return folder.read(index) if folder else make()
    except UserError as error:
        if folder is None:
            raise
        rank_zero_warn(f"{error}; until then it is resized on the fly")
        return make()


def _releases() -> bytes:
    """What made the files: other releases may decode or round otherwise."""
    libraries = {"torch": torch.__version__, "cv2": cv2.__version__, "pillow": PIL.__version__}
    return json.dumps({"resize": RESIZE_VERSION, **libraries}).encode()


_MEND = "remove it and start ripu-data prepare again"
