"""Values of class maps from YAML or JSON: keys, text, colours and whole numbers, taken strictly as they were typed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ripu_lightning.class_colors import Color
from ripu_lightning.errors import UserError, suggest
from ripu_lightning.untrusted import Unclear


def require_keys(content: Mapping[str, Any], known: Sequence[str], source: str) -> None:
    """Refuse a key that is not known. Raises UserError."""
    for key in content.keys() - known:
        raise UserError(f"{source}: no key {key!r} in a class map; {suggest(str(key), known)}")


def require_known(names: Iterable[str], known: Sequence[str], where: str) -> None:
    """Refuse a class that is not known. Raises UserError."""
    for name in names:
        if name not in known:
            raise UserError(f"{where}: no class {name!r}; {suggest(name, known)}")


def as_mapping(value: Any, what: str) -> Mapping[Any, Any]:
    """A mapping. Raises ValueError for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{what} has no keys")
    return value


def as_text(value: Any) -> str:
    """Text as it was typed. Raises ValueError for what YAML reads as something else."""
    if value == Unclear(""):
        raise ValueError("a name is missing")
    if isinstance(value, (int, Unclear)):
        raise ValueError(f"YAML does not read {value!r} as text; put it in quotes: '{value!r}'")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a name")
    return value


def as_names(value: Any) -> tuple[str, ...]:
    """A list of text. Raises ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list of class names")
    return tuple(map(as_text, value))


def as_colors(value: Any) -> tuple[Color, ...]:
    """A list of colours. Raises ValueError for anything else."""
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list of colors")
    return tuple(map(as_color, value))


def as_color(value: Any) -> Color:
    """Three whole numbers in 0..255. Raises ValueError for anything else."""
    channels = as_integers(value)
    if len(channels) != 3 or not all(0 <= channel <= 255 for channel in channels):
        raise ValueError(f"color {value} is not three numbers in 0..255")
    return channels[0], channels[1], channels[2]


def as_integers(value: Any) -> tuple[int, ...]:
    """A list of whole numbers. Raises ValueError for anything else."""
    # Strictly: int() would read "12" as the ids 1 and 2, and 7.5 as 7.
    if not isinstance(value, list) or not all(type(item) is int for item in value):
        raise ValueError(f"{value!r} is not a list of whole numbers, written as decimals")
    return tuple(value)
