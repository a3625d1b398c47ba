"""What is read of a Parquet file's bytes against what Arrow tells of a file that it wrote itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.labels.footer import read_footer
from ripu_lightning.labels.pages import FLAT, INDEXED, check_pages
from ripu_lightning.labels.thrift import I32, I64, i32, i64, read_struct

SCHEMA = pa.schema([("text", pa.string()), ("number", pa.int32()), ("bytes", pa.binary())])


def sample(rows: int) -> pa.Table:
    rng = np.random.default_rng(rows)
    numbers = rng.integers(0, 9, rows)
    arrays = [[f"name {number}" for number in numbers], numbers, [rng.bytes(int(number)) for number in numbers]]
    return pa.table([pa.array(each, field.type) for each, field in zip(arrays, SCHEMA, strict=True)], schema=SCHEMA)


OPTIONS: list[dict[str, Any]] = [
    {
        "use_dictionary": dictionary,
        "compression": compression,
        "write_statistics": statistics,
        "data_page_version": page,
    }
    for dictionary in (True, False)
    for compression in ("none", "zstd")
    for statistics in (True, False)
    for page in ("1.0", "2.0")
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(map(str, options.values())))
def test_places_and_sizes_are_those_of_arrow(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(sample(1000), path, row_group_size=300, data_page_size=500, **options)
    footer, arrow = read_footer(path, SCHEMA), pq.read_metadata(path)
    assert [group.rows for group in footer.groups] == [300, 300, 300, 100]
    with open(path, "rb") as file:
        for number, group in enumerate(footer.groups):
            for index, place in enumerate(group.columns):
                chunk = arrow.row_group(number).column(index)
                start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
                assert place == (start, start + chunk.total_compressed_size)
                # Arrow's total counts the pages' headers, which are not unpacked.
                total = chunk.total_uncompressed_size
                check_pages(file, "x", place, INDEXED, total)
                with pytest.raises(ValueError, match="more than can be"):
                    check_pages(file, "x", place, INDEXED, total // 2)
                if options["use_dictionary"]:
                    with pytest.raises(ValueError, match="encoding 2 is not used"):
                        check_pages(file, "x", place, FLAT, total)


def number(value: int) -> bytes:
    """Zigzag, 7 bits a byte: the plain definition."""
    value = 2 * value if value >= 0 else -2 * value - 1
    groups = [value & 127]
    while value := value >> 7:
        groups.append(value & 127)
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1))
def test_numbers(small: int, large: int) -> None:
    skipped = b"\x18\x03abc" + b"\x19\x2c\x00\x15\x02\x00" + b"\x1c\x11\x00" + b"\x17" + b"x" * 8  # bytes, list, struct
    data = b"\x15" + number(small) + skipped + b"\x06" + number(300) + number(large) + b"\x00rest"
    found, end = read_struct(data, 0, {(1, I32): i32, (300, I64): i64})
    assert (found, data[end:]) == ({1: small, 300: large}, b"rest")


@pytest.mark.parametrize(
    "data",
    [
        b"\x15" + number(2**31) + b"\x00",  # Arrow would see another number
        b"\x16" + b"\xff" * 11 + b"\x00",
        b"\x05" + number(2**15) + b"\x02\x00",
        b"\x15\x02\x05" + number(1) + b"\x02\x00",  # the same field twice
        b"\x1c" * 50 + b"\x00" * 51,
        b"\x1f\x00",
        b"\x1b\x00\x00",
        b"\x19\xf5\xff\xff\xff\xff\x07\x00",
        b"\x18\x7f\x00",
        b"\x15",
        b"",
    ],
)
def test_what_can_not_be_is_refused(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        read_struct(data, 0, {(1, I32): i32})


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_end(data: bytes) -> None:
    try:
        _, end = read_struct(data, 0, {(1, I32): i32})
        assert 0 < end <= len(data)
    except (ValueError, IndexError):
        pass


def test_no_footer_at_all(tmp_path: Path) -> None:
    for content in (b"", b"PAR1", b"\xff" * 40, b"PAR1" + b"\0" * 4 + b"PAR1"):
        (tmp_path / "x.parquet").write_bytes(content)
        with pytest.raises((ValueError, IndexError, OSError, pa.ArrowException)):
            read_footer(tmp_path / "x.parquet", SCHEMA)
