"""Statistics of a data set: size, pixels of each class and on boundaries of each image, kept in the cache."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.dataset import IGNORE, SegmentationDataset, UInt8Array
from ripu_lightning.data.workers import work_through
from ripu_lightning.errors import UserError

Int64Array = npt.NDArray[np.int64]
NAME = "statistics.npz"


@dataclass(frozen=True, eq=False)
class Statistics:
    """Counts of ``N`` images with ``C`` classes.

    Attributes:
        sizes: ``(N, 2)`` int64, height and width; 0 where an image cannot be read.
        pixels: ``(N, C)`` int64, pixels of each class; 0 without labels.
        ignored: ``(N,)`` int64, ignored pixels.
        boundary: ``(N,)`` int64, pixels :func:`on_boundary`.
    """

    sizes: Int64Array
    pixels: Int64Array
    ignored: Int64Array
    boundary: Int64Array


def on_boundary(label: UInt8Array) -> npt.NDArray[np.bool_]:
    """Whether each pixel ``(H, W)`` has a neighbour of another class above, below, left or right.

    Ignored pixels have no class.

    >>> on_boundary(np.array([[0, 0, 1, 255, 2]], dtype=np.uint8)).astype(int)
    array([[0, 1, 1, 0, 0]])
    """
    found = np.zeros(label.shape, dtype=np.bool_)
    known = label != IGNORE
    for first, second in (((slice(None, -1),), (slice(1, None),)), ((..., slice(None, -1)), (..., slice(1, None)))):
        differs = (label[first] != label[second]) & known[first] & known[second]
        found[first] |= differs
        found[second] |= differs
    return found


def read_statistics(
    dataset: SegmentationDataset,
    images: bool = False,
    faults: list[str] | None = None,
    workers: int = 0,
    title: str = "counting pixels",
) -> Statistics:
    """Read every label once, if there are labels.

    Args:
        dataset: what to read.
        images: decode every image as well, to find faults.
        faults: gets the lines of all faults; without it, the first fault is raised.
        workers: number of processes; 0 reads in this process.
        title: of the progress bar.

    Raises:
        UserError: a file that cannot be used, unless ``faults`` is given.
    """
    rows = []
    for row, found in work_through(partial(_read_one, dataset, images), range(len(dataset)), workers, title):
        if found and faults is None:
            raise UserError(found[0])
        if faults is not None:
            faults += found
        rows.append(row)
    table = np.array(rows, dtype=np.int64).reshape(len(dataset), 2 + len(dataset.classes) + 2)
    return Statistics(sizes=table[:, :2], pixels=table[:, 2:-2], ignored=table[:, -2], boundary=table[:, -1])


def load_statistics(dataset: SegmentationDataset, cache: DataCache, workers: int = 0) -> Statistics:
    """The statistics from the cache; where they are missing or damaged, they are read and kept.

    Raises:
        UserError: a label that cannot be used.
    """
    images, classes = len(dataset), len(dataset.classes)
    content = cache.read(dataset, NAME, limit=8 * images * (2 + classes + 2) + 2**16)
    found = _decode(content, images, classes) if content is not None else None
    if found is None:
        if content is not None:
            cache.warn_damaged(dataset, NAME)
        found = read_statistics(dataset, workers=workers)
        keep_statistics(dataset, cache, found)
    return found


def keep_statistics(dataset: SegmentationDataset, cache: DataCache, statistics: Statistics) -> None:
    """Keep statistics that were read without a fault in the cache."""
    if not dataset.has_labels:  # it may have the fingerprint of a data set with labels
        return
    buffer = io.BytesIO()
    np.savez(buffer, **{field.name: getattr(statistics, field.name) for field in fields(Statistics)})
    cache.keep(dataset, NAME, buffer.getvalue())


def _read_one(dataset: SegmentationDataset, images: bool, index: int) -> tuple[Int64Array, list[str]]:
    classes = len(dataset.classes)
    row = np.zeros(2 + classes + 2, dtype=np.int64)
    faults: list[str] = []
    with _collecting(faults):
        row[:2] = dataset.size(index)
    if images:
        with _collecting(faults):
            dataset.image(index)
    if dataset.has_labels:
        with _collecting(faults):
            label = dataset.label(index)
            found = np.bincount(label.ravel(), minlength=IGNORE + 1)
            row[2:] = [*found[:classes], found[IGNORE], np.count_nonzero(on_boundary(label))]
    return row, faults


@contextmanager
def _collecting(faults: list[str]) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        if str(error) not in faults:  # every reading meets a broken header
            faults.append(str(error))


def _decode(content: bytes, images: int, classes: int) -> Statistics | None:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            found = Statistics(**{field.name: arrays[field.name] for field in fields(Statistics)})
    except Exception:  # a damaged archive raises nearly anything
        return None
    parts = (found.sizes, found.pixels, found.ignored, found.boundary)
    valid = all(array.dtype == np.int64 and (array >= 0).all() for array in parts)
    shapes = [array.shape for array in parts]
    return found if valid and shapes == [(images, 2), (images, classes), (images,), (images,)] else None
