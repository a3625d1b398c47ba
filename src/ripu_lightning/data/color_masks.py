"""Labels to class indices: by the ids of a class map, or by colours, also those of CVAT's ``labelmap.txt``."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ripu_lightning.class_colors import Color
from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError, suggest

IGNORED, UNKNOWN = 255, -1
SHOWN = 10
"""Unknown ids or colours that an error lists."""
LABEL_MAP = "labelmap.txt"
"""Name of the file that CVAT adds to its "Segmentation mask 1.1"."""
UInt8Array = npt.NDArray[np.uint8]
Int16Array = npt.NDArray[np.int16]


@dataclass(frozen=True)
class StoredLabel:
    """The content of a label file, or of some of its pixels.

    Attributes:
        values: ids ``(...)`` uint8 or uint16, indices of a palette ``(...)`` uint8, or colours ``(..., 3)`` uint8.
        palette: the colours ``(N, 3)`` uint8 of the indices; None where there are none.
        colored: whether the values are colours.
        unlabelled: the id of pixels that nobody labelled, if the file says so.
        hidden: which pixels ``(...)`` are transparent, if it has an alpha channel.
        names: the class of each id, as far as the file says so.
    """

    values: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
    palette: UInt8Array | None = None
    colored: bool = False
    unlabelled: int | None = None
    hidden: npt.NDArray[np.bool_] | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(H, W)`` of a label."""
        return self.values.shape[:-1] if self.colored else self.values.shape

    def at(self, chosen: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "StoredLabel":
        """Some pixels ``(N,)``, by their positions in the flat label or by a mask ``(H, W)``."""
        pixels = self.values.reshape(-1, 3) if self.colored else self.values.reshape(-1)
        hidden = None if self.hidden is None else self.hidden.reshape(-1)[chosen.reshape(-1)]
        return replace(self, values=pixels[chosen.reshape(-1)], hidden=hidden)


class ColorMap:
    """Which colour means which class.

    Args:
        meaning: of each colour a class index, or 255 where it is ignored.
        source: what error messages name.
    """

    def __init__(self, meaning: Mapping[Color, int], source: str) -> None:
        self.source = source
        codes = sorted((_code(np.array(color, dtype=np.uint8)).item(), index) for color, index in meaning.items())
        self._codes, self._indices = (np.array(column) for column in zip(*codes, strict=True))

    @classmethod
    def from_class_map(cls, classes: ClassMap) -> "ColorMap":
        """The colours of a class map.

        Raises:
            UserError: some are defaults, which nobody chose, or two classes share one.
        """
        if not classes.own_colors:
            raise UserError(
                f"labels are stored as colours, but {classes.source} does not give every class its color; "
                "add color: [r, g, b] to each"
            )
        for color, count in Counter(classes.colors).items():
            if count > 1:
                names = [name for name, other in zip(classes.names, classes.colors, strict=True) if other == color]
                raise UserError(
                    f"labels are stored as colours, but {' and '.join(names)} of {classes.source} share the color "
                    f"{list(color)}; give each class its own"
                )
        own = {color: index for index, color in enumerate(classes.colors)}
        return cls({**dict.fromkeys(classes.ignore_colors, IGNORED), **own}, classes.source)

    @classmethod
    def from_label_map(cls, content: bytes, classes: ClassMap, source: str) -> "ColorMap":
        """The colours of a ``labelmap.txt``: lines ``name:red,green,blue:parts:actions``.

        Its names are those of the class map; ``background`` is ignored, unless a class has that name, and so are the
        class map's ``ignore_colors``.

        Args:
            content: of the file.
            classes: gives each name its index, and the ignored colours.
            source: what error messages name.

        Raises:
            UserError: a line of another form, a name that is no class, or a colour given twice.
        """
        meaning: dict[Color, int] = {}
        for number, line in enumerate(content.decode("utf-8-sig", errors="replace").splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, color = _label_of(line, f"{source}, line {number}")
            if color in meaning:
                raise UserError(f"{source}, line {number}: the color {list(color)} is given twice; one label has it")
            if name in classes.names and color in classes.ignore_colors:
                raise UserError(
                    f"{source}, line {number}: {list(color)} is the color of {name}, but one of the ignore_colors of "
                    f"{classes.source}; remove it from one of them"
                )
            if name in classes.names:
                meaning[color] = classes.names.index(name)
            elif name == "background" or color in classes.ignore_colors:
                meaning[color] = IGNORED
            else:
                raise UserError(
                    f"{source}, line {number}: the label {name!r} is no class of {classes.source} "
                    f"({suggest(name, classes.names)}); add the class, or {list(color)} to ignore_colors"
                )
        if not meaning:
            raise UserError(f"{source}: holds no label; expected lines like road:128,64,128::")
        return cls({**dict.fromkeys(classes.ignore_colors, IGNORED), **meaning}, source)

    def decode(self, pixels: UInt8Array) -> Int16Array:
        """The meaning ``(...)`` int16 of colours ``(..., 3)`` uint8: class index, 255 ignored, -1 unknown."""
        codes = _code(pixels)
        places = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        return np.where(self._codes[places] == codes, self._indices[places], UNKNOWN).astype(np.int16)


class LabelDecoder:
    """Turns the content of label files into class indices.

    Ids are those of the class map. Colours are those of ``label_map`` where there is one, else of the class map; every
    one must be known exactly. The indices of a palette are ids. They are read by its colours if all of these are known,
    and some index is no id or there is a ``label_map``.

    Args:
        classes: the class map.
        bits: of an id, 8 or 16.
        label_map: name and content of a ``labelmap.txt``; it is read only if a label has colours.
    """

    def __init__(self, classes: ClassMap, bits: int = 8, label_map: tuple[str, bytes] | None = None) -> None:
        self._classes, self._label_map = classes, label_map
        self._lookup = classes.lookup(bits)

    def decode(self, stored: StoredLabel, name: str | Path) -> Int16Array:
        """Class indices int16 of the pixels, in their shape: 255 where ignored, -1 where unknown.

        Args:
            stored: a label, or some pixels of it.
            name: what an error names.

        Raises:
            UserError: colours whose meaning is not known, or a palette that contradicts the ids.
        """
        if stored.colored:
            try:
                return self._colors.decode(stored.values.astype(np.uint8, copy=False))
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        self._require_names(stored.names, name)
        table = self._lookup if stored.palette is None else self._table(stored.values, stored.palette, name)
        if stored.unlabelled is not None and stored.unlabelled < len(table):
            table = self._with_unlabelled(table, stored.unlabelled, name)
        # For 8 bits, a fifth of NumPy's time.
        eight = stored.values.dtype == np.uint8 and stored.values.ndim == 2 and stored.values.size > 0
        return np.asarray(cv2.LUT(stored.values, table[:256]) if eight else table[stored.values])

    def unknown(self, stored: StoredLabel) -> str:
        """What pixels of unknown meaning hold, for an error: the ids, or the colours and the number of their pixels."""
        if not stored.colored:
            ids = np.unique(stored.values).tolist()
            return _shortened([str(value) for value in ids])
        codes, counts = np.unique(_code(stored.values), return_counts=True)
        listed = sorted(zip(counts.tolist(), codes.tolist(), strict=True), reverse=True)
        return _shortened([f"{[code >> 16, code >> 8 & 255, code & 255]} ({count})" for count, code in listed])

    @property
    def color_source(self) -> str:
        """What gives colours their meaning, for errors."""
        return self._colors.source

    @cached_property
    def _colors(self) -> ColorMap:
        if self._label_map is None:
            return ColorMap.from_class_map(self._classes)
        return ColorMap.from_label_map(self._label_map[1], self._classes, self._label_map[0])

    def _table(self, indices: npt.NDArray[np.integer], palette: UInt8Array, name: str | Path) -> Int16Array:
        """The meaning ``(256,)`` of the indices."""
        try:
            by_color = np.full(256, UNKNOWN, dtype=np.int16)
            by_color[: len(palette)] = self._colors.decode(palette)
        except UserError:  # colours that mean nothing
            return self._lookup
        by_id = self._lookup[:256]
        used = np.bincount(indices.reshape(-1), minlength=256) > 0
        colors_known = bool((by_color[used] >= 0).all())
        if (by_id[used] < 0).any() or (self._label_map and colors_known):  # no ids, or the colours are described
            return by_color if colors_known else by_id
        for index in np.flatnonzero(used & (by_color >= 0) & (by_color != by_id)).tolist():
            # GTAV's licence plates have the color of cars and are ignored: a palette of ids, in which cars have it too.
            alike = (palette == palette[index]).all(axis=1) & (by_id[: len(palette)] == by_color[index])
            if by_id[index] != IGNORED or not alike.any():
                raise UserError(
                    f"{name}: index {index} of its palette is the id of {self._named(by_id[index])}, but has the color "
                    f"{palette[index].tolist()} of {self._named(by_color[index])}; correct the ids or colors of "
                    f"{self._classes.source}, or save the label without palette, as ids or as RGB"
                )
        return by_id

    def _require_names(self, names: Mapping[int, str], name: str | Path) -> None:
        """Refuse a file that says of an id that it is another class."""
        for number, there in names.items():
            index = int(self._lookup[number]) if 0 <= number < len(self._lookup) else UNKNOWN
            if index not in (IGNORED, UNKNOWN) and self._named(index) != there:
                raise UserError(
                    f"{name}: says that {number} is {there}, but in {self._classes.source} it is {self._named(index)}; "
                    "it was written with another class map: use that one, or export it again"
                )

    def _with_unlabelled(self, table: Int16Array, number: int, name: str | Path) -> Int16Array:
        """The table for a file that says that ``number`` is no label."""
        if table[number] not in (IGNORED, UNKNOWN):
            raise UserError(
                f"{name}: says that {number} means unlabelled, but this is the id of {self._named(table[number])}; it "
                f"was written with another class map than {self._classes.source}: use that one, or export it again"
            )
        table = table.copy()
        table[number] = IGNORED
        return table

    def _named(self, index: int) -> str:
        return "what is ignored" if index == IGNORED else self._classes.names[index]


def _code(colors: npt.NDArray[np.integer]) -> npt.NDArray[np.int32]:
    red, green, blue = (colors[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _label_of(line: str, where: str) -> tuple[str, Color]:
    name, *rest = line.rsplit(":", 3)
    channels = [text.strip() for text in rest[0].split(",")] if len(rest) == 3 else []
    if len(channels) != 3 or not all(re.fullmatch("[0-9]{1,3}", text) and int(text) <= 255 for text in channels):
        raise UserError(f"{where}: expected name:red,green,blue:parts:actions, got {line.strip()!r}")
    red, green, blue = map(int, channels)
    return name.strip(), (red, green, blue)


def _shortened(items: list[str]) -> str:
    return ", ".join(items[:SHOWN]) + (", ..." if len(items) > SHOWN else "")
