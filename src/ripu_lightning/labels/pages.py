"""The pages of a Parquet column, looked at before they are unpacked: a small file can claim to hold gigabytes.

Arrow allocates what a page's header claims, whatever the footer says, and one page can stand for many times its
size by pointing into a dictionary or sharing prefixes.
"""

from typing import Any, BinaryIO

from ripu_lightning.labels.thrift import I32, STRUCT, Reader, i32, read_struct

_PLAIN, _PLAIN_DICTIONARY, _DELTA_LENGTHS, _RLE_DICTIONARY, _BYTE_SPLIT = 0, 2, 6, 8, 9
FLAT = {_PLAIN, _DELTA_LENGTHS, _BYTE_SPLIT}
"""Encodings that hold every value's bytes."""
INDEXED = FLAT | {_PLAIN_DICTIONARY, _RLE_DICTIONARY}
"""Also those that name values of a dictionary: no more than 4 bytes a row once they are read as such."""
_DICTIONARY_PAGE = 2
_LARGEST_HEADER = 512  # bytes; without statistics a header has a few dozen


def check_pages(file: BinaryIO, name: str, place: tuple[int, int], encodings: set[int], limit: int) -> None:
    """Refuse a column of which more than ``limit`` bytes would be unpacked, or that is encoded otherwise.

    Args:
        file: the open Parquet file.
        name: of the column.
        place: first and last + 1 byte of the column in one row group.
        encodings: those allowed; a dictionary only where they name its values.
        limit: bytes of all pages together.

    Raises:
        ValueError, IndexError: it is refused, or its headers can not be read.
    """
    at, end = place
    total = 0
    while at < end:
        file.seek(at)
        header, length = read_struct(file.read(_LARGEST_HEADER), 0, _HEADER)
        size, stored, encoding = header.get(2, -1), header.get(3, -1), _encoding(header)
        total += size
        if size < 0 or stored < 0 or total > limit:
            raise ValueError(f"column {name}: {total} bytes to unpack are more than can be")
        if encoding not in encodings:
            raise ValueError(f"column {name}: encoding {encoding} is not used here")
        at += length + stored


def _encoding(header: dict[int, Any]) -> int | None:
    if header.get(1) == _DICTIONARY_PAGE:
        return _PLAIN_DICTIONARY  # whatever its values are encoded in, they are named by the pages that follow
    found: int | None = header.get(5, header.get(8))
    return found


def _encoding_at(field: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[int | None, int]:
        page, at = read_struct(data, at, {(field, I32): i32})
        return page.get(field), at

    return read


# Kind of page, size unpacked and as stored; data pages of both versions.
_HEADER: dict[tuple[int, int], Reader] = {(field, I32): i32 for field in (1, 2, 3)}
_HEADER |= {(5, STRUCT): _encoding_at(2), (8, STRUCT): _encoding_at(4)}
