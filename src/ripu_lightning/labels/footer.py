"""The footer of a Parquet file: where each column of each row group lies, as Arrow will see it."""

import os
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ripu_lightning.labels.thrift import I64, LIST, STRUCT, Reader, i64, list_of, read_struct

GROUP_ROWS = 2**23
"""Most rows of a row group."""
_LARGEST = 32 << 20
"""Bytes; 15,000 row groups. A round has one for some 16,000 queries, or for some 8 MB of answers."""


class RowGroup(NamedTuple):
    """A row group: its number of rows, and first and last + 1 byte of each column."""

    rows: int
    columns: tuple[tuple[int, int], ...]


class Footer(NamedTuple):
    """What Arrow keeps of a footer, the columns, and the row groups."""

    arrow: pq.FileMetaData
    schema: pa.Schema
    groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """Number of rows of the file."""
        return sum(group.rows for group in self.groups)


def read_footer(path: Path, schema: pa.Schema) -> Footer:
    """The footer of a file with just these columns.

    Raises:
        ValueError: other columns, or row groups that can not be. Whatever else Arrow finds passes through.
    """
    content = _content(path)
    arrow = pq.read_metadata(path)
    if arrow.schema.to_arrow_schema() != schema:
        raise ValueError("its columns are not those of this version")
    found, _ = read_struct(content, 0, {(3, I64): i64, (4, LIST): list_of(_group_of(len(schema)))})
    groups = tuple(found.get(4, ()))
    if arrow.num_rows != sum(group.rows for group in groups) or arrow.num_row_groups != len(groups):
        raise ValueError("its row groups can not be")
    return Footer(arrow, schema, groups)


def _content(path: Path) -> bytes:
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        if length > min(size - 8, _LARGEST):
            raise ValueError(f"a footer of {length} bytes")
        file.seek(size - 8 - length)
        return file.read(length)


def _group_of(columns: int) -> Reader:
    def read(data: bytes, at: int) -> tuple[RowGroup, int]:
        found, at = read_struct(data, at, {(1, LIST): list_of(_column, columns), (3, I64): i64})
        if not (1 in found and 0 < found.get(3, 0) <= GROUP_ROWS):
            raise ValueError("its row groups can not be")
        return RowGroup(found[3], tuple(found[1])), at

    return read


def _column(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    found, at = read_struct(data, at, {(3, STRUCT): _column_data})
    if 3 not in found:
        raise ValueError("a column without its place")
    place: tuple[int, int] = found[3]
    return place, at


def _column_data(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    # Compressed size, first data page, dictionary page.
    found, at = read_struct(data, at, {(field, I64): i64 for field in (7, 9, 11)})
    start, length = found.get(9, -1), found.get(7, -1)
    if 0 < found.get(11, 0) < start:
        start = found[11]
    if start < 0 or length < 0:
        raise ValueError("a column without its place")
    return (start, start + length), at
