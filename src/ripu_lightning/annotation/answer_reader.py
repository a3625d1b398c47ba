"""From files of answers to the classes of the queried pixels, and to the pixels that nobody painted."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ripu_lightning.annotation.annotators import Query
from ripu_lightning.annotation.answer_sources import Source
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.color_masks import IGNORED, UNKNOWN, LabelDecoder, StoredLabel
from ripu_lightning.data.reading import decode_label
from ripu_lightning.errors import UserError
from ripu_lightning.labels.masks import box_pixels
from ripu_lightning.mask_values import is_wide, unlabelled_id

UNPAINTED = -2
"""A queried pixel that nobody painted."""

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PaintedPixels:
    """What a file holds at the queried pixels of its image.

    Attributes:
        classes: ``(n,)`` int16: class index, 255 void, or :data:`UNPAINTED`.
        blank: the number or colour of the unpainted pixels, where it is that of a new, empty layer; None elsewhere.
    """

    classes: npt.NDArray[np.int16]
    blank: str | None = None

    @property
    def unpainted(self) -> int:
        """Number of unpainted pixels."""
        return int(np.count_nonzero(self.classes == UNPAINTED))


NOTHING = PaintedPixels(np.array([UNPAINTED], dtype=np.int16))
"""Of an image without any file."""


class AnswerReader:
    """Reads answers in the file ids of a class map, or in its colours.

    A pixel is unpainted if it is transparent, or has the number of unlabelled pixels, as in the templates; in colours,
    if it is the background of CVAT, or black that is no class. A file may also have been painted on a new layer, whose
    0 or white would pass for a class: where all pixels outside the queries hold one such value (or all pixels, if every
    one is queried), queried pixels of this value are unpainted too.

    Args:
        classes: the class map.
        help_file: file that lists the numbers, for errors.
    """

    def __init__(self, classes: ClassMap, help_file: str) -> None:
        self._classes, self._help_file = classes, help_file
        self._wide, self._unlabelled = is_wide(classes), unlabelled_id(classes)

    def read_best(self, sources: Sequence[Source], query: Query, size: tuple[int, int], painted: bool) -> PaintedPixels:
        """The answers to the queries of one image, from the one file that somebody painted.

        Args:
            sources: the files for the image; untouched templates do not count where there are others.
            query: its queries.
            size: its ``(H, W)``.
            painted: whether a file that looks like an empty layer is right.

        Raises:
            UserError: a file cannot be read, or two files differ.
        """
        best, chosen = NOTHING, ""
        for source in sources:
            found = self._read(source, query, size, painted)
            if found.unpainted == len(found.classes):
                best = found if found.blank and not chosen else best
            elif chosen and not np.array_equal(best.classes, found.classes):
                raise UserError(f"{chosen} and {source.name} answer the same queries differently; keep one of them")
            else:
                best, chosen = found, source.name
        return best

    def _read(self, source: Source, query: Query, size: tuple[int, int], painted: bool) -> PaintedPixels:
        stored = decode_label(source.read(), source.name, size, self._wide)
        if self._wide and not stored.colored and stored.palette is None and stored.values.dtype == np.uint8:
            # Cut to 8 bits, an id above 255 would be that of another class.
            raise UserError(f"{source.name}: has 8 bits, but the class map has ids above 255; save it with 16 bits")
        pixels = queried_pixels(query, size[1])
        decoder = LabelDecoder(self._classes, 16 if self._wide else 8, source.label_map)
        there = stored.at(pixels)
        if source.label_map is not None:
            there = _in_colors(there, decoder, source.name)
        classes = decoder.decode(there, source.name).copy()
        unpainted = self._is_unlabelled(there, classes)
        if there.hidden is not None:
            unpainted |= there.hidden
        if ((classes == UNKNOWN) & ~unpainted).any():
            self._refuse_unknown(source, decoder, there.at((classes == UNKNOWN) & ~unpainted))
        classes[unpainted] = UNPAINTED
        # A transparent layer has no colour of its own; a mask that we wrote says which pixels nobody labelled.
        sure = painted or stored.unlabelled is not None or (stored.hidden is not None and bool(stored.hidden.any()))
        return PaintedPixels(classes) if sure else _without_empty_layer(stored, pixels, classes)

    def _is_unlabelled(self, stored: StoredLabel, classes: npt.NDArray[np.int16]) -> Bools:
        """Which pixels ``(n,)`` have the number or colour of unlabelled ones."""
        if not stored.colored:
            stated = stored.unlabelled
            same: Bools = np.isin(stored.values, [self._unlabelled, self._unlabelled if stated is None else stated])
            return same
        no_class = (classes == IGNORED) | (classes == UNKNOWN)
        void = np.zeros(len(classes), dtype=np.bool_)
        for color in self._classes.ignore_colors:
            void |= _equals(stored, np.array(color))
        black, grey = (_equals(stored, np.array([value] * 3)) for value in (0, self._unlabelled))
        unlabelled: Bools = (no_class & black) | grey | ((classes == IGNORED) & ~void)
        return unlabelled

    def _refuse_unknown(self, source: Source, decoder: LabelDecoder, stored: StoredLabel) -> None:
        held = "have colours" if stored.colored else "hold numbers"
        raise UserError(
            f"{source.name}: {len(stored.values)} queried pixels {held} that belong to no class "
            f"({decoder.unknown(stored)}); use those listed in {self._help_file}"
        )


def _in_colors(stored: StoredLabel, decoder: LabelDecoder, name: str) -> StoredLabel:
    """The colours of a palette, where a ``labelmap.txt`` explains all of them: it also says what is unpainted."""
    if stored.palette is None or (stored.values >= len(stored.palette)).any():
        return stored
    colored = replace(stored, values=stored.palette[stored.values], palette=None, colored=True)
    return stored if (decoder.decode(colored, name) == UNKNOWN).any() else colored


def queried_pixels(query: Query, width: int) -> npt.NDArray[np.int64]:
    """Flat positions of all queried pixels of an image ``width`` wide."""
    pixels = box_pixels(query.boxes, width)
    return pixels if query.inside is None else pixels[query.inside]


def _without_empty_layer(
    stored: StoredLabel, queried: npt.NDArray[np.int64], classes: npt.NDArray[np.int16]
) -> PaintedPixels:
    """The ``classes`` of the queried pixels, but unpainted where they hold what an empty layer would."""
    outside, there = np.ones(stored.shape, dtype=np.bool_), stored.at(queried)
    outside.reshape(-1)[queried] = False
    rest, white = stored.at(outside if outside.any() else ~outside), np.iinfo(stored.values.dtype).max
    first: npt.NDArray[np.integer] = np.asarray(rest.values[0])
    black = not first.any()
    if not (black or (first == white).all()) or not _equals(rest, first).all():
        return PaintedPixels(classes)
    if black and (there.values == white).all():  # asked/ID.png, saved again
        return PaintedPixels(np.full_like(classes, UNPAINTED), f"{white}, as in asked/")
    same = _equals(there, first) & (classes != UNPAINTED)
    # Scripts fill with 255 where it is ignored; nobody saves a new layer of that and paints a part of it.
    filled = not black and not same.all() and bool((classes[same] == IGNORED).all())
    if filled or not same.any():
        return PaintedPixels(classes)
    return PaintedPixels(np.where(same, np.int16(UNPAINTED), classes), str(first.tolist()))


def _equals(stored: StoredLabel, value: npt.NDArray[np.integer]) -> Bools:
    same: Bools = np.asarray(stored.values == value, dtype=np.bool_)
    return np.asarray(same.all(axis=-1), dtype=np.bool_) if stored.colored else same
