"""The pages of a Parquet column, looked at before they are unpacked: a small file can claim to hold gigabytes.

Arrow allocates what a page's header claims, whatever the footer says, and one page can stand for many times its
size by pointing into a dictionary or sharing prefixes. The headers are structs of Thrift's compact protocol.
"""

from typing import Any, BinaryIO

import pyarrow.parquet as pq

_PLAIN, _PLAIN_DICTIONARY, _DELTA_LENGTHS, _RLE_DICTIONARY, _BYTE_SPLIT = 0, 2, 6, 8, 9
FLAT = {_PLAIN, _DELTA_LENGTHS, _BYTE_SPLIT}
"""Encodings that hold every value's bytes."""
INDEXED = FLAT | {_PLAIN_DICTIONARY, _RLE_DICTIONARY}
"""Also those that name values of a dictionary: no more than 4 bytes a row once they are read as such."""
_DICTIONARY_PAGE = 2
_HEADER = 512  # bytes; without statistics a header has a few dozen


def check_pages(file: BinaryIO, chunk: pq.ColumnChunkMetaData, encodings: set[int], limit: int) -> None:
    """Refuse a column of which more than ``limit`` bytes would be unpacked, or that is encoded otherwise.

    Args:
        file: the open Parquet file.
        chunk: the column in one row group.
        encodings: those allowed; a dictionary only where they name its values.
        limit: bytes of all pages together.

    Raises:
        ValueError: it is refused, or its headers can not be read.
    """
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < at:
        at = chunk.dictionary_page_offset
    end = at + chunk.total_compressed_size
    total = 0
    while at < end:
        file.seek(at)
        header, length = _read_struct(file.read(_HEADER), 0)
        size, stored, encoding = _size(header.get(2)), _size(header.get(3)), _encoding(header)
        total += size
        if total > limit:
            raise ValueError(f"column {chunk.path_in_schema}: {total} bytes to unpack are more than can be")
        if encoding not in encodings:
            raise ValueError(f"column {chunk.path_in_schema}: encoding {encoding} is not used here")
        at += length + stored


def _size(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise ValueError("a page without a size")
    return value


def _encoding(header: dict[int, Any]) -> int | None:
    if header.get(1) == _DICTIONARY_PAGE:
        return _PLAIN_DICTIONARY  # whatever its values are encoded in, they are named by the pages that follow
    for field, place in ((5, 2), (8, 4)):  # data page, data page of the second version
        if isinstance(header.get(field), dict):
            found: int | None = header[field].get(place)
            return found
    return None


def _read_struct(data: bytes, at: int) -> tuple[dict[int, Any], int]:
    """Numbers and structs by field id, and where the struct ends; ValueError for what no header holds."""
    fields: dict[int, Any] = {}
    field = 0
    try:
        while data[at]:
            step, kind = data[at] >> 4, data[at] & 15
            at += 1
            if step:
                field += step
            else:
                field, at = _signed(*_read_number(data, at))
            if kind in (1, 2):  # true, false: the kind is the value
                fields[field] = kind == 1
            elif kind in (4, 5, 6):
                fields[field], at = _signed(*_read_number(data, at))
            elif kind == 8:  # bytes of statistics, of no use here
                length, at = _read_number(data, at)
                at += length
            elif kind == 12:
                fields[field], at = _read_struct(data, at)
            else:
                raise ValueError(f"a page's header with a field of kind {kind}")
        return fields, at + 1
    except IndexError:
        raise ValueError("a page's header that does not end") from None


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _signed(value: int, at: int) -> tuple[int, int]:
    """Of a zigzag number: 0, -1, 1, -2, 2, ..."""
    return (value >> 1) ^ -(value & 1), at
