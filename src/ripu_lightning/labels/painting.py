"""From columns to images: the arithmetic that paints boxes, many at once."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from ripu_lightning.labels.answers import NOT_ASKED, VOID, Answers, Int64Array, UInt8Array, box_sizes
from ripu_lightning.labels.entry import Round

Rounds = Iterable[tuple[Round, Answers]]
"""What was answered about one image, round by round."""
_AT_ONCE = 2**21
"""Pixels whose indices are made at once, 8 bytes each and a few times over; a larger box is painted as a whole."""


def paint_mask(shape: tuple[int, int], rounds: Rounds) -> UInt8Array:
    """The answers ``(H, W)`` uint8, the last one where there are several; 255 where there is none."""
    canvas = np.full(shape, VOID, dtype=np.uint8)
    for _, answers in rounds:
        _paint(canvas, answers.boxes, answers.values != NOT_ASKED, answers.values)
    return canvas


def paint_asked(shape: tuple[int, int], rounds: Rounds) -> npt.NDArray[np.uint16]:
    """Number of the last round that asked about each pixel, ``(H, W)`` uint16; 0 where none did."""
    canvas = np.zeros(shape, dtype=np.uint16)
    for entry, answers in rounds:
        _paint(canvas, answers.boxes, answers.values != NOT_ASKED, entry.number)
    return canvas


def paint_available(shape: tuple[int, int], rounds: Rounds) -> npt.NDArray[np.bool_]:
    """``(H, W)`` bool, False where it was asked and in the square of its round's ``exclusion`` around every centre."""
    canvas = np.ones(shape, dtype=np.bool_)
    for entry, answers in rounds:
        _paint(canvas, answers.boxes, answers.values != NOT_ASKED, False)
        _paint(canvas, squares(answers.centres, entry.exclusion, *shape), None, False)
    return canvas


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


def _paint(
    canvas: npt.NDArray[np.generic],
    boxes: npt.NDArray[np.integer],
    inside: npt.NDArray[np.bool_] | None,
    values: UInt8Array | int,
) -> None:
    """Write into ``canvas`` ``(H, W)``, box after box, one value a pixel of the boxes or one value for all.

    ``inside`` tells which pixels of the boxes are meant; None means all of them.
    """
    flat, width = canvas.reshape(-1), canvas.shape[1]
    for start, stop, pixels in _parts(boxes):
        new = values if isinstance(values, int) else values[pixels]
        meant = None if inside is None else inside[pixels]
        if stop - start == 1:
            top, left, box_height, box_width = boxes[start].tolist()
            place = canvas[top : top + box_height, left : left + box_width]
            whole = new if isinstance(new, int) else new.reshape(place.shape)
            np.copyto(place, whole, where=True if meant is None else meant.reshape(place.shape), casting="unsafe")
            continue
        where = box_pixels(boxes[start:stop], width)
        if meant is not None and not meant.all():
            where, new = where[meant], new if isinstance(new, int) else new[meant]
        flat[where] = new


def _parts(boxes: npt.NDArray[np.integer]) -> Iterator[tuple[int, int, slice]]:
    """First and last + 1 box of each part of at most ``_AT_ONCE`` pixels, or of one box; and where its pixels lie."""
    sizes = box_sizes(boxes)
    if len(boxes) > 1 and sizes.sum() <= _AT_ONCE:  # as nearly always
        yield 0, len(boxes), slice(None)
        return
    ends = np.cumsum(sizes)
    start = first = 0
    while start < len(boxes):
        stop = max(start + 1, int(np.searchsorted(ends, first + _AT_ONCE, side="right")))
        last = int(ends[stop - 1])
        yield start, stop, slice(first, last)
        start, first = stop, last
