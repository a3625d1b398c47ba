"""What every data set is: an ordered list of image ids with images, labels and a class map."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.classes import ClassMap

IGNORE = 255
"""The mask value that no loss, score or metric counts."""

UInt8Array = npt.NDArray[np.uint8]


class SegmentationDataset(ABC):
    """One split of one domain, at its own resolution, without any transform.

    ``ids`` are unique and stable: the label store refers to images by them.
    """

    classes: ClassMap
    ids: Sequence[str]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ids)

    @abstractmethod
    def image(self, index: int) -> UInt8Array:
        """RGB image ``(H, W, 3)`` uint8."""

    @abstractmethod
    def label(self, index: int) -> UInt8Array:
        """Truth ``(H, W)`` uint8: class indices ``0..C-1``, 255 where ignored."""

    @abstractmethod
    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)`` of the image, without decoding it."""

    def check(self) -> None:  # noqa: B027 - most data sets that are drawn by code have nothing to check
        """Read everything once and raise :class:`~ripu_lightning.errors.UserError` at the first fault."""
