"""Just enough of Thrift's compact protocol to read the sizes in a Parquet file before Arrow acts on them.

Arrow offers no way that is safe: it allocates what a page's header claims, and its view of a column's metadata ends
the process where these contradict themselves. Everything that Arrow could read otherwise is refused.
"""

from collections.abc import Callable, Mapping
from typing import Any

I32, I64, LIST, STRUCT = 5, 6, 9, 12
_LIMITS = {3: 2**7, 4: 2**15, I32: 2**31, I64: 2**63}
_DEPTH = 16

Reader = Callable[[bytes, int], tuple[Any, int]]
"""Data and position -> a value, and where it ends."""


def read_struct(data: bytes, at: int, wanted: Mapping[tuple[int, int], Reader]) -> tuple[dict[int, Any], int]:
    """The wanted fields of a struct by their ids, and where it ends; all others are skipped.

    Args:
        data: holds the struct.
        at: where it starts.
        wanted: field's id and kind -> what reads it.

    Raises:
        ValueError, IndexError: it can not be read.
    """
    found: dict[int, Any] = {}
    field = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if step:
            field += step
        else:
            field, at = _signed(data, at, 4)
        reader = wanted.get((field, kind))
        if reader is None:
            at = _skip(data, at, kind, 0)
            continue
        if field in found:
            raise ValueError("a field comes twice")
        found[field], at = reader(data, at)
    return found, at + 1


def i32(data: bytes, at: int) -> tuple[int, int]:
    """A :data:`Reader` of numbers of 32 bits."""
    return _signed(data, at, I32)


def i64(data: bytes, at: int) -> tuple[int, int]:
    """A :data:`Reader` of numbers of 64 bits."""
    return _signed(data, at, I64)


def list_of(reader: Reader, count: int | None = None) -> Reader:
    """A :data:`Reader` of lists of structs, of just ``count`` where it is given."""

    def read(data: bytes, at: int) -> tuple[list[Any], int]:
        kind, length, at = _list_header(data, at)
        if kind != STRUCT or count not in (None, length):
            raise ValueError(f"a list of {length} entries of kind {kind}")
        entries = []
        for _ in range(length):
            entry, at = reader(data, at)
            entries.append(entry)
        return entries, at

    return read


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    if depth > _DEPTH:
        raise ValueError("structs too deep in each other")
    if kind in (1, 2):  # true, false: the kind is the value
        return at
    if kind in _LIMITS:
        return at + 1 if kind == 3 else _signed(data, at, kind)[1]
    if kind == 7:
        return at + 8
    if kind == 8:
        length, at = _number(data, at)
        return at + length
    if kind in (LIST, 10):
        inner, length, at = _list_header(data, at)
        for _ in range(length):
            at = at + 1 if inner in (1, 2) else _skip(data, at, inner, depth + 1)
        return at
    if kind == STRUCT:
        while data[at]:
            step, inner = data[at] >> 4, data[at] & 15
            at = at + 1 if step else _signed(data, at + 1, 4)[1]
            at = _skip(data, at, inner, depth + 1)
        return at + 1
    raise ValueError(f"a field of kind {kind}")


def _list_header(data: bytes, at: int) -> tuple[int, int, int]:
    """Kind of the entries, how many, and where they start."""
    length, kind = data[at] >> 4, data[at] & 15
    at += 1
    if length == 15:
        length, at = _number(data, at)
    if length > len(data):  # an entry takes a byte at least
        raise ValueError(f"a list of {length} entries")
    return kind, length, at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value, at
    raise ValueError("a number too long")


def _signed(data: bytes, at: int, kind: int) -> tuple[int, int]:
    """A zigzag number (0, -1, 1, -2, 2, ...) that fits its kind, and where it ends."""
    value, at = _number(data, at)
    if value >= 2 * _LIMITS[kind]:
        raise ValueError(f"{value} is too large a number")
    return (value >> 1) ^ -(value & 1), at
