"""Row groups of a round's file: decoded and checked as a whole, and the last ones kept."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ripu_lightning.labels.answers import NOT_ASKED, Answers, Float32Array, Int32Array, Int64Array, UInt8Array

PIXELS = 2**28
"""Most pixels of an image."""


@dataclass(frozen=True, eq=False)
class Group:
    """The queries of a row group, as in :class:`Answers`; ``ends`` ``(n + 1,)`` tells where each box's values lie."""

    centres: Int32Array
    boxes: Int32Array
    scores: Float32Array
    ends: Int64Array
    values: UInt8Array

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(int(getattr(self, field.name).nbytes) for field in fields(self))

    def answers(self, image_id: str, start: int, stop: int) -> Answers:
        """A copy of the rows from ``start`` to before ``stop``, which are of one image."""
        values = self.values[self.ends[start] : self.ends[stop]].copy()
        centres, boxes = self.centres[start:stop].copy(), self.boxes[start:stop].copy()
        return Answers(image_id, centres, boxes, values, self.scores[start:stop].copy())


class GroupCache:
    """The row groups used last. A walk through the images in the file's order decodes each group once.

    It takes no lock, so that a forked child can never wait for a thread it does not have; a pickled copy is empty.

    Args:
        limit: bytes to keep.
    """

    def __init__(self, limit: int = 64 << 20) -> None:
        self._limit = limit
        self._groups: dict[Any, Group] = {}

    def get(self, key: Any, decode: Callable[[], Group]) -> Group:
        """The group of that key, decoded unless it is there."""
        group = self._groups.pop(key, None)
        if group is not None:
            self._groups[key] = group  # the last one is the one used last
            return group
        group = self._groups[key] = decode()
        kept = list(self._groups.items())
        total = sum(each.nbytes for _, each in kept)
        for old, each in kept:
            if total <= self._limit:
                break
            self._groups.pop(old, None)
            total -= each.nbytes
        return group

    def __reduce__(self) -> tuple[type["GroupCache"], tuple[int]]:
        return GroupCache, (self._limit,)


def require_size(image_id: str, size: tuple[int, int], queries: int) -> None:
    """Raise ``ValueError`` for an image that can not be, or one with fewer pixels than queries."""
    if min(size) < 1 or size[0] * size[1] > PIXELS:
        raise ValueError(f"image {image_id!r} of {size[0]} x {size[1]} pixels can not be")
    if queries > size[0] * size[1]:
        raise ValueError(f"image {image_id!r} of {size[0]} x {size[1]} pixels has {queries} queries")


def make_boxes(numbers: dict[str, Any]) -> tuple[Int32Array, Int32Array]:
    """Centres ``(n, 2)`` and boxes ``(n, 4)``, known to lie in their images; ValueError where one does not."""

    def pair(*names: str) -> Int64Array:
        return np.stack([numbers[name] for name in names], axis=1).astype(np.int64)

    centres = pair("row", "column")
    corners, sides = centres + pair("box_top", "box_left"), pair("box_height", "box_width")
    boxes = np.concatenate([corners, sides], axis=1)
    require_boxes(centres, boxes, pair("image_height", "image_width"))
    return centres.astype(np.int32), boxes.astype(np.int32)


def require_boxes(centres: Int64Array, boxes: Int64Array, size: Int64Array) -> None:
    """Raise ``ValueError`` unless every box and centre lies in its image ``(H, W)``, a row each."""
    corners, sides = boxes[:, :2], boxes[:, 2:]
    if (sides < 1).any() or (corners < 0).any() or (corners + sides > size).any():
        raise ValueError("a box leaves its image")
    if (centres < 0).any() or (centres >= size).any():
        raise ValueError("a centre lies outside its image")


def require_values(values: UInt8Array, classes: int) -> None:
    """Raise ``ValueError`` for a value that is no class, void or "not asked"."""
    wrong = values[(values >= classes) & (values < NOT_ASKED)]
    if len(wrong):
        raise ValueError(f"class index {wrong[0]}, but there are {classes} classes")


def payload_of(boxes: Int32Array) -> Int64Array:
    """Where each box's values end, ``(n + 1,)``, from 0."""
    sides = boxes[:, 2:].astype(np.int64)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sides[:, 0] * sides[:, 1])])
