"""From columns to images: the arithmetic that paints boxes, without a loop over queries."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ripu_lightning.labels.answers import NOT_ASKED, VOID, Answers, Int64Array, UInt8Array, box_sizes
from ripu_lightning.labels.entry import Round

Rounds = Iterable[tuple[Round, Answers]]
"""What was answered about one image, round by round."""


def paint_mask(shape: tuple[int, int], rounds: Rounds) -> UInt8Array:
    """The answers ``(H, W)`` uint8, the last one where there are several; 255 where there is none."""
    canvas = np.full(shape[0] * shape[1], VOID, dtype=np.uint8)
    for _, answers in rounds:
        where, values = _asked_pixels(answers, shape[1])
        canvas[where] = values
    return canvas.reshape(shape)


def paint_asked(shape: tuple[int, int], rounds: Rounds) -> npt.NDArray[np.uint16]:
    """Number of the last round that asked about each pixel, ``(H, W)`` uint16; 0 where none did."""
    canvas = np.zeros(shape[0] * shape[1], dtype=np.uint16)
    for entry, answers in rounds:
        canvas[_asked_pixels(answers, shape[1])[0]] = entry.number
    return canvas.reshape(shape)


def paint_available(shape: tuple[int, int], rounds: Rounds) -> npt.NDArray[np.bool_]:
    """``(H, W)`` bool, False where it was asked and in the square of its round's ``exclusion`` around every centre."""
    canvas = np.ones(shape[0] * shape[1], dtype=np.bool_)
    for entry, answers in rounds:
        canvas[_asked_pixels(answers, shape[1])[0]] = False
        canvas[box_pixels(squares(answers.centres, entry.exclusion, *shape), shape[1])] = False
    return canvas.reshape(shape)


def box_pixels(boxes: npt.NDArray[np.integer], width: int) -> Int64Array:
    """Flat indices of all pixels of all boxes, box after box, each row by row, in an image ``width`` wide.

    >>> box_pixels(np.array([[0, 1, 2, 2], [1, 0, 1, 1]]), width=10)
    array([ 1,  2, 11, 12, 10])
    """
    sizes = box_sizes(boxes)
    top, left, _, box_width = boxes.astype(np.int64).T
    starts = np.cumsum(sizes) - sizes
    position = np.arange(sizes.sum()) - np.repeat(starts, sizes)
    row = position // np.repeat(box_width, sizes)
    # Row r of a box starts r * width after its corner; `position` has already advanced r * box_width of them.
    skipped = row * np.repeat(width - box_width, sizes)
    pixels: Int64Array = np.repeat(top * width + left, sizes) + position + skipped
    return pixels


def squares(centres: npt.NDArray[np.integer], radius: int, height: int, width: int) -> Int64Array:
    """Boxes ``(n, 4)`` of the squares of ``radius`` around ``centres`` ``(n, 2)``, clipped to the image.

    >>> squares(np.array([[0, 4]]), radius=1, height=5, width=5)
    array([[0, 3, 2, 2]])
    """
    wide = centres.astype(np.int64)
    first = np.maximum(wide - radius, 0)
    last = np.minimum(wide + radius, np.array([height - 1, width - 1]))
    return np.concatenate([first, last - first + 1], axis=1)


def _asked_pixels(answers: Answers, width: int) -> tuple[Int64Array, UInt8Array]:
    """Flat indices and answers of the pixels that were asked, in the order of asking."""
    where = box_pixels(answers.boxes, width)
    asked = answers.values != NOT_ASKED
    return (where, answers.values) if asked.all() else (where[asked], answers.values[asked])
