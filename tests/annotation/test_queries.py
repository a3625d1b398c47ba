"""Queries to a file and back: not a bit may change between two processes of one run."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.annotation import Query
from ripu_lightning.annotation.queries import from_table, read_table, to_table, write_queries
from ripu_lightning.errors import UserError


def query(index: int, count: int, ragged: bool, seed: int) -> Query:
    rng = np.random.default_rng(seed)
    boxes = rng.integers(1, 6, (count, 4)).astype(np.int32)
    inside = rng.random(int((boxes[:, 2] * boxes[:, 3]).sum())) < 0.6 if ragged else None
    scores = rng.choice(np.array([1e-40, -0.0, 1 / 3, -np.inf, 7], dtype=np.float32), count)
    return Query(index, f"town/{index}", rng.integers(0, 2**31 - 1, (count, 2), dtype=np.int32), boxes, inside, scores)


def assert_same(found: Query, expected: Query) -> None:
    assert (found.index, found.image_id) == (expected.index, expected.image_id)
    for name in ("centres", "boxes", "inside", "scores"):
        one, other = getattr(found, name), getattr(expected, name)
        if other is None:
            assert one is None
            continue
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


IMAGES = st.dictionaries(
    st.integers(0, 10**6), st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 99)), max_size=4
)


@given(IMAGES)
def test_bit_for_bit(images: dict[int, tuple[int, bool, int]]) -> None:
    queries = [query(index, *arguments) for index, arguments in sorted(images.items())]
    found = from_table(to_table(queries))
    expected = [each for each in queries if len(each.centres)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_through_a_file_below_a_folder_that_looks_like_a_partition(tmp_path: Path) -> None:
    folder = tmp_path / "budget.ratio=0.1"  # as in a sweep
    folder.mkdir()
    queries = [query(3, 2, True, 1), query(8, 1, False, 2)]
    write_queries(folder / "queries.parquet", queries)
    table = read_table(folder / "queries.parquet")
    assert table.equals(to_table(queries))
    assert table.column("region").to_pylist() == [1, 2, 1]
    assert table.column("image").to_pylist() == ["town/3", "town/3", "town/8"]
    for one, other in zip(from_table(table), queries, strict=True):
        assert_same(one, other)


def test_files_that_are_no_queries(tmp_path: Path) -> None:
    path = tmp_path / "queries.parquet"
    for write in (
        lambda: None,
        lambda: path.write_bytes(b"PAR1 and no more"),
        lambda: pq.write_table(pa.table({"image": ["a"]}), path),
    ):
        write()
        with pytest.raises(UserError, match=r"queries\.parquet: can not be read") as error:
            read_table(path)
        assert "\n" not in str(error.value)
