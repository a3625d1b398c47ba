"""From answers to images: masks, rounds of the queries, and the pixels that may still be selected."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ripu_lightning.labels.answers import NOT_QUERIED, VOID, Answers, Int64Array, UInt8Array, box_sizes
from ripu_lightning.labels.round import Round

Rounds = Iterable[tuple[Round, Answers]]
"""The answers about one image, round by round."""
_SMALL = 64
"""Boxes of fewer pixels on average are painted all at once, by an index of each pixel; larger ones one by one."""


def paint_mask(shape: tuple[int, int], rounds: Rounds) -> UInt8Array:
    """The answers ``(H, W)`` uint8, the last one where there are several; :data:`VOID` where there is none."""
    canvas = np.full(shape, VOID, dtype=np.uint8)
    for _, answers in rounds:
        _paint(canvas, answers.boxes, answers.values, answers.values != NOT_QUERIED)
    return canvas


def paint_query_round(shape: tuple[int, int], rounds: Rounds) -> npt.NDArray[np.uint16]:
    """Number of the last round that queried each pixel, ``(H, W)`` uint16; 0 where none did."""
    canvas = np.zeros(shape, dtype=np.uint16)
    for entry, answers in rounds:
        _paint(canvas, answers.boxes, entry.number, answers.values != NOT_QUERIED)
    return canvas


def paint_available(shape: tuple[int, int], rounds: Rounds) -> npt.NDArray[np.bool_]:
    """``(H, W)`` bool: False where queried, and in the square of its round's ``exclusion`` around every centre."""
    canvas = np.ones(shape, dtype=np.bool_)
    for entry, answers in rounds:
        _paint(canvas, answers.boxes, False, answers.values != NOT_QUERIED)
        _paint(canvas, squares(answers.centres, entry.exclusion, *shape), False)
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
    values: UInt8Array | int,
    inside: npt.NDArray[np.bool_] | None = None,
) -> None:
    """Write into ``canvas`` ``(H, W)``, box after box: one value for all pixels, or one for each pixel of the boxes.

    ``inside`` says which pixels of the boxes to write; None means all.
    """
    sizes = box_sizes(boxes)
    if sizes.sum() < _SMALL * len(boxes):
        pixels = box_pixels(boxes, canvas.shape[1])
        if inside is not None:
            pixels, values = pixels[inside], values if isinstance(values, int) else values[inside]
        canvas.reshape(-1)[pixels] = values
        return
    ends = np.cumsum(sizes).tolist()
    for (top, left, height, width), end in zip(boxes.tolist(), ends, strict=True):
        place = canvas[top : top + height, left : left + width]
        patch = slice(end - height * width, end)
        new = values if isinstance(values, int) else values[patch].reshape(place.shape)
        np.copyto(place, new, where=True if inside is None else inside[patch].reshape(place.shape), casting="unsafe")
