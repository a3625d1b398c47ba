"""One round's file, read image by image once every row group is known to be what a writer could have written."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ripu_lightning.labels.answers import NOT_ASKED, VOID, Answers, Int64Array
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.footer import read_footer
from ripu_lightning.labels.groups import Group, GroupCache, make_boxes, payload_of, require_size, require_values
from ripu_lightning.labels.parquet import bytes_of, numbers_of, read_columns, readable, runs_of
from ripu_lightning.labels.rounds import REPEATED, SCHEMA

Images = Mapping[str, tuple[int, int]]
_SIZE = ("image_height", "image_width")
_NUMBERS = ("row", "column", *REPEATED, "score")


class _Place(NamedTuple):
    """Where an image's rows lie: row group, first and last + 1 row inside it; and the image's ``(H, W)``."""

    group: int
    start: int
    stop: int
    size: tuple[int, int]


class RoundFile:
    """Reads the answers of single images out of one round's file.

    It keeps the index and the footer, no open file: it may be pickled, forked and shared by threads.

    Args:
        path: the file, whose SHA-256 was checked.
        entry: what the manifest says of it.
        classes: number of classes.
        images: ``(H, W)`` of every image there may be, where known.
        cache: of the store.
        mend: ends the line of a ``UserError``.

    Raises:
        UserError: no file that a round could be; also from every method that reads.
    """

    def __init__(
        self, path: Path, entry: Round, classes: int, images: Images | None, cache: GroupCache, mend: str
    ) -> None:
        self._path, self._entry, self._classes, self._cache, self._mend = path, entry, classes, cache, mend
        with readable(path, mend):
            self._footer = read_footer(path, SCHEMA)
            if self._footer.rows != entry.queries:
                raise ValueError(f"{self._footer.rows} queries, but the manifest tells of {entry.queries}")
            self._places = self._index(images)

    @property
    def images(self) -> list[str]:
        """Ids of the images with at least one query, in the order of the file."""
        return list(self._places)

    def read(self, image_id: str) -> tuple[Answers, tuple[int, int]] | None:
        """The answers about one image and its ``(H, W)``; None where there are none."""
        place = self._places.get(image_id)
        if place is None:
            return None
        key = (self._entry.sha256, place.group)
        group = self._cache.get(key, lambda: self._decode(place.group))
        return group.answers(image_id, place.start, place.stop), place.size

    def tally(self) -> Int64Array:
        """How many pixels each value got, ``(256,)``, once the whole file is known to be what the manifest tells."""
        counts = np.zeros(256, dtype=np.int64)
        for group in range(len(self._footer.groups)):
            counts += np.bincount(self._decode(group).values, minlength=256)
        with readable(self._path, self._mend):
            pixels, void = int(counts.sum() - counts[NOT_ASKED]), int(counts[VOID])
            if (pixels, void) != (self._entry.pixels, self._entry.void):
                raise ValueError(
                    f"{pixels} pixels, {void} void, but the manifest tells of {self._entry.pixels}, {self._entry.void}"
                )
        return counts

    def _decode(self, group: int) -> Group:
        with readable(self._path, self._mend):
            table = read_columns(self._path, self._footer, group, _NUMBERS)
            numbers = {name: numbers_of(table, name) for name in _NUMBERS}
            centres, boxes = make_boxes(numbers)
            ends = payload_of(boxes)
            patches = read_columns(self._path, self._footer, group, ["patch"], payload=int(ends[-1]))
            values = bytes_of(patches.column("patch"), np.diff(ends))
            require_values(values, self._classes)
            return Group(centres, boxes, numbers["score"].astype(np.float32), ends, values)

    def _index(self, images: Images | None) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        for group in range(len(self._footer.groups)):
            table = read_columns(self._path, self._footer, group, ["image", *_SIZE])
            names, starts = runs_of(table, "image")
            sizes = np.stack([numbers_of(table, name) for name in _SIZE], axis=1)
            changes = np.flatnonzero((np.diff(sizes, axis=0) != 0).any(axis=1)) + 1
            if not np.isin(changes, starts).all():
                raise ValueError("an image changes its size")
            bounds = pairwise([*starts.tolist(), len(sizes)])
            for name, size, (start, stop) in zip(names, sizes[starts].tolist(), bounds, strict=True):
                if name in places:
                    raise ValueError(f"image {name!r} comes twice")
                if images is not None and images.get(name) != tuple(size):
                    raise ValueError(f"image {name!r} of {size[0]} x {size[1]} pixels is none of this store")
                require_size(name, (size[0], size[1]), stop - start)
                places[name] = _Place(group, start, stop, (size[0], size[1]))
        return places
