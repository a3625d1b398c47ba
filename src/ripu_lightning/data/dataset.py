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

    ``ids`` are unique and stable: the label store refers to images by them. Where ``has_labels`` is False,
    :meth:`label` raises.
    """

    classes: ClassMap
    ids: Sequence[str]
    has_labels: bool = True
    compares_labels: bool = False
    """Whether labels were looked at to find out which images there are."""

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

    def check(self, labels: bool = True) -> None:  # noqa: B027 - data sets drawn by code have nothing to check
        """Read everything once and raise :class:`~ripu_lightning.errors.UserError` at the first fault.

        Args:
            labels: also open the truth.
        """

    def fingerprint(self) -> str | None:
        """Hexadecimal digest that changes when the data do, on this machine; None where it can not be told."""
        return None

    def content(self) -> str | None:
        """Hexadecimal digest of all images and labels, equal for equal data anywhere; None where it can not be told."""
        return self.fingerprint()

    def notes(self) -> list[str]:
        """What is done to faults that an option lets pass, a line each."""
        return []
