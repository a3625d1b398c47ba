"""Decoded images and masks in memory as uint8: read once, before the workers of the loaders start, which share them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.data.workers import work_through
from ripu_lightning.errors import UserError

Kind = Literal["images", "labels"]
Item = tuple[Kind, int]
"""What an array is, and the index of its image."""
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Decoded:
    """The arrays of one data set that are in memory.

    Attributes:
        block: all of them, one after the other, ``(bytes,)`` uint8. A tensor, because torch hands tensors to worker
            processes through shared memory where these are not forked.
        places: where each one begins, and its shape.
    """

    block: Tensor
    places: dict[Item, tuple[int, Shape]]

    def read(self, kind: Kind, index: int) -> UInt8Array | None:
        """A copy of an array; None where it is not in memory."""
        if (kind, index) not in self.places:
            return None
        start, shape = self.places[kind, index]
        array: UInt8Array = self.block[start : start + _bytes(shape)].numpy().reshape(shape).copy()
        return array


class Memory:
    """Keeps the first images of data sets, and their masks, as long as they fit.

    Args:
        megabytes: bound of all arrays together, in 10^6 bytes; 0 keeps nothing.
    """

    def __init__(self, megabytes: int) -> None:
        self._left = megabytes * 10**6
        self._sets: dict[object, Decoded] = {}

    def find(self, key: object) -> Decoded | None:
        """The arrays that were read under a key."""
        return self._sets.get(key)

    def fill(
        self, key: object, shapes: Iterable[tuple[Item, Shape]], read: Callable[[Kind, int], UInt8Array], workers: int
    ) -> None:
        """Read the arrays of one data set, up to the first that does not fit; nothing where the key is known.

        Args:
            key: equal for equal arrays.
            shapes: what to read, in this order.
            read: gives one array.
            workers: number of processes that read; 0 reads in this one.

        Raises:
            UserError: an array that cannot be read.
        """
        if key in self._sets or not self._left:
            return
        places: dict[Item, tuple[int, Shape]] = {}
        used = 0
        for item, shape in shapes:
            if used + _bytes(shape) > self._left:
                break
            places[item] = used, shape
            used += _bytes(shape)
        decoded = Decoded(torch.empty(used, dtype=torch.uint8), places)
        job, items = partial(_read, read, list(places)), list(places.values())
        for (start, shape), found in zip(
            items, work_through(job, range(len(items)), workers, "reading into memory"), strict=True
        ):
            if isinstance(found, str):
                raise UserError(found)
            decoded.block[start : start + _bytes(shape)].view(shape).copy_(torch.from_numpy(found))
        self._left -= used
        self._sets[key] = decoded


def _bytes(shape: Shape) -> int:
    return torch.Size(shape).numel()


def _read(read: Callable[[Kind, int], UInt8Array], items: Sequence[Item], position: int) -> UInt8Array | str:
    try:
        return read(*items[position])
    except UserError as error:
        return str(error)
