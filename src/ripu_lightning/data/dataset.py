"""What every data set is: an ordered list of image ids with images, labels and a class map."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from ripu_lightning.class_map import ClassMap

IGNORE = 255
"""The mask value that no loss, score or metric counts."""

UInt8Array = npt.NDArray[np.uint8]


class SegmentationDataset(ABC):
    """One split of one domain, at its own resolution, without any transform.

    Attributes:
        classes: the class map.
        ids: unique and stable names of the images; the label store refers to images by them.
        has_labels: where it is False, :meth:`label` raises.
        compares_labels: whether labels were read to find out which images there are.
    """

    classes: ClassMap
    ids: Sequence[str]
    has_labels: bool = True
    compares_labels: bool = False

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

    def check(self, labels: bool = True) -> None:  # noqa: B027 - drawn data sets have nothing to check
        """Read everything once, the truth only if ``labels``; raise UserError at the first fault."""

    def fingerprint(self) -> str | None:
        """Hexadecimal digest that changes when the data do, on this machine; None where there is none."""
        return None

    def content(self) -> str | None:
        """Hexadecimal digest of all images and labels, equal for equal data on any machine; None where unknown."""
        return self.fingerprint()

    def digests(self, kind: Literal["images", "labels"]) -> dict[str, str] | None:
        """A hexadecimal digest of each image file, or label file, by its path below the root; None without files.

        By it a run finds out which file was exchanged after it began; without files it compares :meth:`content`.
        """
        return None

    def notes(self) -> list[str]:
        """One line for each kind of fault that an option of the data set tolerates."""
        return []
