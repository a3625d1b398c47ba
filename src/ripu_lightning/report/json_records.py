"""Records as JSON files that are checked against the types of their dataclass, as they may come from elsewhere."""

import json
import re
from dataclasses import MISSING, asdict, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from ripu_lightning.errors import UserError
from ripu_lightning.files import write_bytes
from ripu_lightning.untrusted import is_line, parse_json, read_bounded

LARGEST_FILE = 2**23
"""Bytes; enough for thousands of rounds of many classes."""
LABELS_SAFE = "the labels in the label store are safe"
"""Said where a file of a run cannot be written."""

Count = Annotated[int, 0, 2**62]
Amount = Annotated[float, 0, 2**62]
Share = Annotated[float, 0, 1]
Sha256 = Annotated[str, "[0-9a-f]{64}"]

Record = TypeVar("Record")


def write_record(record: Any, path: Path) -> None:
    """Write a dataclass as JSON in one step. Raises UserError where it cannot be written."""
    write_bytes(path, f"{json.dumps(asdict(record), indent=2, allow_nan=False)}\n".encode(), LABELS_SAFE)


def read_record(path: Path, kind: type[Record], limit: int = LARGEST_FILE) -> Record:
    """The dataclass ``kind`` that a JSON file of at most ``limit`` bytes holds, see :func:`checked`.

    Raises:
        UserError: the file cannot be read, or its content is no such record.
    """
    try:
        found: Record = checked(kind, parse_json(read_bounded(path, limit)))
        return found
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: not a complete {kind.__name__.lower()} file; write it again with ripu-train"
        ) from error


def checked(kind: Any, value: Any) -> Any:
    """A value from JSON as the type ``kind``: dataclasses are built, keys without default required.

    Other keys are refused. ``Annotated`` numbers have a range, ``Annotated`` texts a pattern. Texts are one line.

    Raises:
        ValueError: the value is not of this type.

    >>> checked(dict[str, Share | None], {"road": 0.5, "bus": None})
    {'road': 0.5, 'bus': None}
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind) or is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        optional = _optional(kind)
        _require(isinstance(value, dict) and set(hints) - optional <= set(value) <= set(hints))
        parts = {name: checked(hint, value[name]) for name, hint in hints.items() if name in value}
        return kind(**parts)
    if origin in {Union, UnionType}:
        others = [each for each in arguments if each is not NoneType]
        return None if value is None else checked(others[0], value)
    if origin is list:
        _require(isinstance(value, list))
        return [checked(arguments[0], each) for each in value]
    if origin is dict:
        _require(isinstance(value, dict))
        return {checked(str, key): checked(arguments[1], each) for key, each in value.items()}
    if origin is Annotated:
        found = checked(arguments[0], value)
        _require(re.fullmatch(arguments[1], found) if arguments[0] is str else arguments[1] <= found <= arguments[2])
        return found
    _require(kind is Any or type(value) in ({int, float} if kind is float else {kind}))
    _require(not isinstance(value, str) or is_line(value))
    return value


def _optional(kind: Any) -> set[str]:
    if is_typeddict(kind):
        return set(kind.__optional_keys__)
    return {each.name for each in fields(kind) if (each.default, each.default_factory) != (MISSING, MISSING)}


def _require(condition: object) -> None:
    if not condition:
        raise ValueError("a value of another type")
