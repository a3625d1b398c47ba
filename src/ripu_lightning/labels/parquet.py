"""Parquet files from anywhere: nothing is allocated for what they claim before it is known to be sane."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ripu_lightning.errors import UserError
from ripu_lightning.files import first_line
from ripu_lightning.labels.footer import Footer
from ripu_lightning.labels.pages import FLAT, INDEXED, check_pages

PAYLOAD = 2**29
"""Most bytes of a column of bytes in a row group."""
_TEXT = 2**28
_SLACK = 2**20


@contextmanager
def readable(path: Path, mend: str) -> Iterator[None]:
    """Turn what a damaged or hostile ``path`` makes the block raise into a ``UserError`` that ends with ``mend``."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {mend}") from None
    except UserError:
        raise
    except (OSError, ValueError, TypeError, LookupError, OverflowError, MemoryError, pa.ArrowException) as error:
        # Arrow also raises OSErrors, without a number, for content that it does not understand.
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path} cannot be read ({error.strerror}): {mend}") from error
        raise UserError(f"{path} is damaged ({first_line(error)}): {mend}") from error


def read_columns(path: Path, footer: Footer, group: int, names: Sequence[str], payload: int = 0) -> pa.Table:
    """Columns of one row group; text comes as a dictionary.

    Args:
        path: the file.
        footer: its footer, see :func:`~ripu_lightning.labels.footer.read_footer`.
        group: number of the row group.
        names: columns to read.
        payload: bytes that a column of bytes may hold.

    Raises:
        ValueError: more to unpack than its rows can need. Whatever else Arrow finds passes through.
    """
    if payload > PAYLOAD:
        raise ValueError(f"{payload} bytes of answers in a row group are more than can be")
    rows, columns = footer.groups[group]
    with open(path, "rb") as file:
        for field, place in zip(footer.schema, columns, strict=True):
            if field.name in names:
                check_pages(file, field.name, place, *_limits(field.type, rows, payload))
    text = [field.name for field in footer.schema if field.type == pa.string()]
    reader = pq.ParquetFile(path, metadata=footer.arrow, memory_map=True, pre_buffer=False, read_dictionary=text)
    table = reader.read_row_group(group, columns=list(names), use_threads=False)
    if table.num_rows != rows:
        raise ValueError(f"{table.num_rows} rows where {rows} were announced")
    return table


def numbers_of(table: pa.Table, name: str) -> npt.NDArray[np.generic]:
    """A column of numbers without gaps."""
    column = table.column(name)
    if column.null_count:
        raise ValueError(f"column {name} has gaps")
    found: npt.NDArray[np.generic] = column.to_numpy()
    return found


def runs_of(table: pa.Table, name: str) -> tuple[list[str], npt.NDArray[np.int64]]:
    """A column of texts as the text of each run of equal ones, and the row where each run starts."""
    column = table.column(name).combine_chunks()
    if column.null_count:
        raise ValueError(f"column {name} has gaps")
    code, texts = column.indices.to_numpy(), column.dictionary
    if len(code) and not 0 <= code.min() <= code.max() < len(texts):
        raise ValueError(f"column {name} names texts that are not there")
    starts = np.flatnonzero(np.diff(code, prepend=-1))
    return [texts[int(each)].as_py() for each in code[starts]], starts


def bytes_of(column: pa.ChunkedArray | pa.Array, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """A column of bytes, one row after the other, known to have these lengths."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    _, offsets, content = column.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    if column.null_count or not np.array_equal(np.diff(bounds.astype(np.int64)), lengths):
        raise ValueError("the bytes do not fit the boxes")
    return np.frombuffer(content or b"", dtype=np.uint8)[bounds[0] : bounds[-1]].copy()


def _limits(kind: pa.DataType, rows: int, payload: int) -> tuple[set[int], int]:
    """Encodings and bytes of a column: twice its values, for a dictionary, and what the pages need themselves."""
    if kind == pa.binary():
        return FLAT, payload + 8 * rows + _SLACK
    if kind == pa.string():
        return INDEXED, _TEXT
    return INDEXED, 8 * rows + _SLACK
