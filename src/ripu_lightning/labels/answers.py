"""The answers of one round to the queries of one image, as columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

VOID = 255
"""A queried pixel that the annotator gave no class; in a mask, every pixel without a class."""
NOT_QUERIED = 254
"""A pixel of a query's box that was not part of the query, e.g. outside the superpixel."""

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Answers:
    """The answered queries of one image in one round, by descending score.

    Args:
        image_id: id of the image in its data set.
        centres: ``(n, 2)`` int32, ``(row, column)``.
        boxes: ``(n, 4)`` int32, ``(top, left, height, width)``, clipped to the image, no side empty.
        values: ``(sum of height * width,)`` uint8, the boxes' patches one after the other, each row by row:
            a class index, :data:`VOID` or :data:`NOT_QUERIED`.
        scores: ``(n,)`` float32.

    Raises:
        ValueError: an array of another shape or dtype, or an empty box.

    >>> point = np.array([[4, 7]], dtype=np.int32)
    >>> box = np.array([[4, 7, 1, 1]], dtype=np.int32)
    >>> answers = Answers("a", point, box, np.array([3], dtype=np.uint8), np.array([0.5], dtype=np.float32))
    >>> len(answers), answers.pixels
    (1, 1)
    """

    image_id: str
    centres: Int32Array
    boxes: Int32Array
    values: UInt8Array
    scores: Float32Array

    def __post_init__(self) -> None:
        count = len(self.centres)
        self._check("centres", self.centres, np.int32, (count, 2))
        self._check("boxes", self.boxes, np.int32, (count, 4))
        self._check("scores", self.scores, np.float32, (count,))
        if (self.boxes[:, 2:] < 1).any():
            raise ValueError(f"{self.image_id}: boxes must have height and width of at least 1")
        self._check("values", self.values, np.uint8, (int(box_sizes(self.boxes).sum()),))

    def __len__(self) -> int:
        """Number of queries."""
        return len(self.centres)

    @property
    def pixels(self) -> int:
        """Number of queried pixels, void ones included."""
        return int(np.count_nonzero(self.values != NOT_QUERIED))

    @property
    def void(self) -> int:
        """Number of queried pixels without a class."""
        return int(np.count_nonzero(self.values == VOID))

    def _check(self, name: str, array: npt.NDArray[np.generic], dtype: type, shape: tuple[int, ...]) -> None:
        if array.dtype != dtype or array.shape != shape:
            expected = f"{np.dtype(dtype).name} {shape}"
            raise ValueError(f"{self.image_id}: {name} must be {expected}, not {array.dtype.name} {array.shape}")


def patches_of(values: UInt8Array, boxes: npt.NDArray[np.integer]) -> list[UInt8Array]:
    """The values of each box: parts of ``values``, no copies."""
    return np.split(values, np.cumsum(box_sizes(boxes))[:-1]) if len(boxes) else []


def query_keys(boxes: Int32Array, queried: npt.NDArray[np.bool_]) -> list[tuple[bytes, bytes]]:
    """What makes two queries of one image the same: the box, and which of its pixels are queried.

    Args:
        boxes: ``(n, 4)``, see :class:`Answers`.
        queried: ``(sum of height * width,)``, box after box.
    """
    parts = patches_of(queried.view(np.uint8), boxes)
    return [(box.tobytes(), part.tobytes()) for box, part in zip(boxes, parts, strict=True)]


def box_sizes(boxes: npt.NDArray[np.integer]) -> Int64Array:
    """Pixels ``(n,)`` of each box ``(n, 4)``."""
    sides = boxes[:, 2:].astype(np.int64)
    sizes: Int64Array = sides[:, 0] * sides[:, 1]
    return sizes
