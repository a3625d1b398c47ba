"""What the numbers in a mask file mean: file ids or class indices, and the text in the file that says which."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL.PngImagePlugin import PngInfo

from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError

Values = Literal["id", "index", "queries"]
"""File ids of the class map; class indices, 255 without a class; or 255 where a pixel is queried, 0 elsewhere."""

_VALUES, _UNLABELLED, _NAMES = "ripu:values", "ripu:unlabelled", "ripu:classes"
_VOID = "void"
_MEANINGS = {
    "index": "class indices, not the file ids of the class map: export with --values id, predict with label_ids",
    "queries": "the queried pixels and no classes: it is from the folder asked/",
}


def unlabelled_id(classes: ClassMap) -> int:
    """The number of pixels that nobody labelled, 0..65535: the largest of 8 bits that is neither an id nor ignored.

    Where classes have colours, it is no class's grey either: a template saved in colours must stay unlabelled.

    >>> unlabelled_id(ClassMap.from_names(["road", "car"]))
    254

    Raises:
        UserError: the class map leaves no number free.
    """
    used = {value for values in (*classes.ids, classes.ignore) for value in values}
    if classes.own_colors:
        used |= {color[0] for color in (*classes.colors, *classes.ignore_colors) if len(set(color)) == 1}
    free: Iterator[int] = (value for value in (*range(255, -1, -1), *range(2**16 - 1, 255, -1)) if value not in used)
    found = next(free, None)
    if found is None:
        raise UserError(f"{classes.source}: no number of 0..65535 is free for unlabelled pixels; ignore fewer")
    return found


def is_wide(classes: ClassMap) -> bool:
    """Whether masks in file ids need 16 bits."""
    return any(value > 255 for values in (*classes.ids, classes.ignore, [unlabelled_id(classes)]) for value in values)


def void_id(classes: ClassMap) -> int:
    """The file id of void pixels: 255 or the first ignored id; that of unlabelled ones where nothing is ignored."""
    return 255 if 255 in classes.ignore else (*classes.ignore, unlabelled_id(classes))[0]


def file_ids(classes: ClassMap) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """``(C,)`` file id of each class, the first of several; uint16 where :func:`is_wide`, else uint8.

    Raises:
        UserError: a class has none.
    """
    for name, ids in zip(classes.names, classes.ids, strict=True):
        if not ids:
            raise UserError(f"{classes.source}: class {name!r} has no file id; give it one, or write class indices")
    first = np.array([ids[0] for ids in classes.ids])
    return first.astype(np.uint16) if is_wide(classes) else first.astype(np.uint8)


def mark(values: Values, unlabelled: int | None = None, classes: ClassMap | None = None) -> PngInfo:
    """The text chunks of a PNG that :func:`require_file_ids` and :func:`class_names` read.

    Args:
        values: what its numbers are.
        unlabelled: the number of pixels that nobody labelled.
        classes: whose file ids it holds.
    """
    chunks = PngInfo()
    chunks.add_text(_VALUES, values)
    if unlabelled is not None:
        chunks.add_text(_UNLABELLED, str(unlabelled))
    if classes is not None:
        names = {int(number): name for number, name in zip(file_ids(classes), classes.names, strict=True)}
        # Plain ASCII, which any reader of PNG takes.
        chunks.add_text(_NAMES, json.dumps({void_id(classes): _VOID, **names}))
    return chunks


def class_names(text: Mapping[Any, Any]) -> dict[int, str]:
    """The class of each number in a file with these text chunks; empty where it does not say."""
    try:
        return {int(number): str(name) for number, name in json.loads(str(text.get(_NAMES))).items()}
    except (ValueError, AttributeError, RecursionError):
        return {}


def require_file_ids(text: Mapping[Any, Any]) -> int | None:
    """The number of unlabelled pixels in a file with these text chunks; None where it does not say.

    Raises:
        UserError: the file says that its numbers are no file ids.
    """
    meaning = _MEANINGS.get(str(text.get(_VALUES)))
    if meaning:
        raise UserError(f"holds {meaning}")
    number = str(text.get(_UNLABELLED))
    return int(number) if number.isascii() and number.isdecimal() and len(number) < 6 else None
