"""Images and masks at the network's size: resized when they are read, or ahead of time by ``ripu-data prepare``."""

import io
import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import get_args

import numpy as np
import PIL
import torch
from PIL import Image

from ripu_lightning.data.cache import DataCache, read_complete, write_complete
from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.data.memory import Kind, Memory
from ripu_lightning.data.reading import LARGEST, verify
from ripu_lightning.data.resizing import OPENCV, RESIZE_VERSION, resize_image, resize_mask
from ripu_lightning.data.workers import work_through
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.first_rank import rank_zero_warn
from ripu_lightning.labels.export import path_of
from ripu_lightning.mask_values import mark
from ripu_lightning.untrusted import read_bounded

Size = tuple[int, int]


class Resized:
    """A view of a data set at the network's size, from memory, from complete prepared files, or resized when read.

    Instead of a damaged prepared file, with a warning, the original is read and resized.

    Args:
        dataset: what is viewed.
        size: ``(H, W)``; None keeps each image's own size.
        cache: where prepared files may be.
        memory: where arrays may be that :meth:`load` read, also those of another view of the same data.
    """

    def __init__(
        self, dataset: SegmentationDataset, size: Size | None, cache: DataCache, memory: Memory | None = None
    ) -> None:
        self.dataset, self.size = dataset, size
        self._decoded = memory.find((dataset.fingerprint(), size)) if memory else None
        self._prepared: dict[Kind, PreparedFolder] = {}
        place = cache.place(dataset) if size else None  # here and not in each worker: a fingerprint may take a second
        if size and place:
            # Labels may be prepared although this view hides them, if the same tree is a source elsewhere.
            for kind in ("images", "labels") if dataset.has_labels else ("images",):
                folder = PreparedFolder(dataset, kind, size, place)
                if folder.complete:
                    self._prepared[kind] = folder

    def image(self, index: int) -> UInt8Array:
        """RGB image ``(h, w, 3)`` uint8. Raises UserError if the file cannot be used."""
        return self._read("images", index)

    def label(self, index: int) -> UInt8Array:
        """Truth ``(h, w)`` uint8. Raises UserError if the file cannot be used."""
        return self._read("labels", index)

    def resize_mask(self, mask: UInt8Array) -> UInt8Array:
        """A mask ``(H, W)`` uint8 of the data set's own size, at the network's size ``(h, w)``."""
        return resize_mask(mask, self.size) if self.size else mask

    def load(self, memory: Memory, labels: bool, workers: int) -> None:
        """Read images, and the truth if ``labels`` is set, into memory, as many as fit.

        Nothing is kept of a data set without fingerprint: it may change.

        Raises:
            UserError: a file that cannot be used.
        """
        fingerprint, kinds = self.dataset.fingerprint(), get_args(Kind) if labels else ("images",)
        sizes = (self.size or self.dataset.size(index) for index in range(len(self.dataset)))
        shapes = (
            ((kind, index), (*size, 3) if kind == "images" else size)
            for index, size in enumerate(sizes)
            for kind in kinds
        )
        if fingerprint:
            memory.fill((fingerprint, self.size), shapes, self._read, workers)
            self._decoded = memory.find((fingerprint, self.size))

    def _read(self, kind: Kind, index: int) -> UInt8Array:
        if self._decoded and (kind == "images" or self.dataset.has_labels):
            found = self._decoded.read(kind, index)
            if found is not None:
                return found
        if kind in self._prepared:
            try:
                return self._prepared[kind].read(index)
            except UserError as error:
                rank_zero_warn(f"{error}; until then it is resized when it is read")
        return _resized(self.dataset, kind, index, self.size)


class PreparedFolder:
    """All images or all labels of a data set at one size: ``PLACE/HxW-RELEASES/images/ID.png``.

    The folder is complete when ``images.json`` exists next to it. Each set of library releases has its own folder:
    other releases may give other pixels than resizing would now.

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
        """Whether every file was written."""
        return read_complete(self._manifest) is not None

    def read(self, index: int) -> UInt8Array:
        """One prepared array.

        Raises:
            UserError: the file is missing, damaged or of another size.
        """
        path, expected = self._path(index), ("RGB" if self._kind == "images" else "L", *self._size)
        try:
            content = io.BytesIO(read_bounded(path, LARGEST))
            with Image.open(content, formats=["PNG"]) as picture:
                found = (picture.mode, picture.height, picture.width)
                if found != expected:
                    raise ValueError(f"it is {found}, expected {expected}")
                verify(content.getvalue())
                return np.array(picture, dtype=np.uint8)
        except Exception as error:  # a damaged file makes the decoder raise nearly anything
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path}: prepared file cannot be read ({reason}); remove it and start ripu-data prepare again"
            ) from error

    def prepare(self, workers: int, title: str) -> int:
        """Write the missing files in processes, then the manifest.

        Args:
            workers: number of processes; 0 writes in this process.
            title: of the progress bar.

        Returns:
            The number of files written.

        Raises:
            UserError: an image or label that cannot be used, or a file that cannot be written.
        """
        missing = [index for index in range(len(self._dataset)) if not self._path(index).is_file()]
        for fault in work_through(self._write, missing, workers, title) if missing else ():
            if fault:
                raise UserError(fault)
        if not self.complete:
            write_complete(self._manifest, _releases())
        return len(missing)

    def _path(self, index: int) -> Path:
        return path_of(self.folder, self._dataset.ids[index])

    def _write(self, index: int) -> str | None:
        try:
            buffer = io.BytesIO()
            array = _resized(self._dataset, self._kind, index, self._size)
            says = mark("index") if self._kind == "labels" else None  # no labels of a data set
            Image.fromarray(array).save(buffer, "PNG", compress_level=1, pnginfo=says)  # read more often than written
            write_complete(self._path(index), buffer.getvalue())
        except UserError as error:
            return str(error)
        return None


def parse_size(argument: str, value: Iterable[int] | None) -> Size | None:
    """``(height, width)`` from an argument of :class:`~ripu_lightning.data.ActiveDataModule`; None stays None.

    Raises:
        InvalidArgument: not two whole numbers of 1 or more.
    """
    if value is None:
        return None
    size = tuple(value) if isinstance(value, Iterable) else (value,)
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise InvalidArgument("ActiveDataModule", argument, f"must be [height, width] in pixels, got {value}")
    return size[0], size[1]


def _resized(dataset: SegmentationDataset, kind: Kind, index: int, size: Size | None) -> UInt8Array:
    array = dataset.image(index) if kind == "images" else dataset.label(index)
    if size is None:
        return array
    return resize_image(array, size) if kind == "images" else resize_mask(array, size)


def _releases() -> bytes:
    """The libraries that decide how files are decoded and resized."""
    libraries = {"torch": torch.__version__, "cv2": OPENCV, "pillow": PIL.__version__}
    return json.dumps({"resize": RESIZE_VERSION, **libraries}).encode()
