"""Queries to a file and back: not a bit may change between two processes of one run, and no other file is believed."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.annotation import Query
from ripu_lightning.annotation import queries as queries_module
from ripu_lightning.annotation.queries import holds_queries, read_queries, to_table, write_queries
from ripu_lightning.errors import UserError

SIZES = {f"town/{index}": (6 + index, 30 - index) for index in range(20)}


def query(index: int, count: int, ragged: bool, seed: int) -> Query:
    rng, size = np.random.default_rng(seed), SIZES[f"town/{index}"]
    corners, centres = (np.stack([rng.integers(0, side, count) for side in size], axis=1) for _ in range(2))
    sides = np.minimum(rng.integers(1, 6, (count, 2)), np.array(size) - corners)
    boxes = np.concatenate([corners, sides], axis=1).astype(np.int32)
    inside = rng.random(int((boxes[:, 2] * boxes[:, 3]).sum())) < 0.6 if ragged else None
    scores = rng.choice(np.array([1e-40, -0.0, 1 / 3, -np.inf, 7], dtype=np.float32), count)
    return Query(index, f"town/{index}", centres.astype(np.int32), boxes, inside, scores)


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
    st.integers(0, 19), st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 99)), max_size=6
)


@given(IMAGES, st.integers(1, 9))
def test_bit_for_bit(images: dict[int, tuple[int, bool, int]], rows: int) -> None:
    queries = [query(index, *arguments) for index, arguments in sorted(images.items())]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries_module, "_ROWS", rows)  # so that images fall into several row groups
        path = Path(folder) / "queries.parquet"
        write_queries(path, queries)
        found = read_queries(path, SIZES)
        assert holds_queries(path, queries)
        assert not holds_queries(path, [*queries[1:], query(19, 5, False, 7)])
    expected = [each for each in queries if len(each.centres)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_through_a_file_below_a_folder_that_looks_like_a_partition(tmp_path: Path) -> None:
    folder = tmp_path / "budget.ratio=0.1"  # as in a sweep
    folder.mkdir()
    queries = [query(3, 2, True, 1), query(8, 1, False, 2)]
    write_queries(folder / "queries.parquet", queries)
    table = pq.ParquetFile(folder / "queries.parquet").read()
    assert table.equals(to_table(queries))
    assert table.column("region").to_pylist() == [1, 2, 1]
    assert table.column("image").to_pylist() == ["town/3", "town/3", "town/8"]
    for one, other in zip(read_queries(folder / "queries.parquet", SIZES), queries, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "change",
    [
        lambda each: replace(each, scores=each.scores + 1),
        lambda each: replace(each, centres=each.centres[::-1].copy()),
        lambda each: replace(each, image_id="town/9"),
        lambda each: replace(each, inside=~each.inside),
        lambda each: replace(each, inside=None),
        lambda each: query(4, 3, True, 1),
    ],
)
def test_other_queries_are_told_apart(tmp_path: Path, change: Callable[[Query], Query]) -> None:
    path, queries = tmp_path / "queries.parquet", [query(3, 3, True, 1), query(8, 1, False, 2)]
    write_queries(path, queries)
    assert holds_queries(path, queries)
    assert not holds_queries(path, [change(queries[0]), queries[1]])


def columns(**changes: Any) -> bytes:
    """The file of three queries, with other columns in the place of some."""
    table = to_table([query(3, 2, False, 1), query(8, 1, False, 2)])
    for name, values in changes.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), [pa.array(values, table.schema.field(name).type)])
    file = io.BytesIO()
    pq.write_table(table, file, use_dictionary=False, compression="zstd", write_statistics="inside" not in changes)
    return file.getvalue()


CORNER = {name: [0, 0, 0] for name in ("row", "column", "box_top", "box_left")}
CORNER |= {name: [1, 1, 1] for name in ("box_height", "box_width")}


def one_line(error: UserError, path: Path) -> None:
    assert str(error).startswith(str(path))
    assert str(error).endswith("restore it from a backup")
    assert str(error).isprintable()


FAULTS: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "is missing"),
    "text": (b"PAR1 and no more", "is damaged"),
    "columns": (columns()[:-1], "is damaged"),
    "index": (columns(index=[3, 3, 9]), "'town/8' with index 9"),
    "far": (columns(index=[3, 3, 2**31 - 1]), "is none of the data set"),
    "below": (columns(index=[-1, -1, 8]), "is none of the data set"),
    "two": (columns(index=[3, 4, 8]), "is none of the data set"),
    "image": (columns(image=["town/3", "town/3", "elsewhere"]), "'elsewhere' with index 8"),
    "order": (columns(image=["town/8", "town/8", "town/3"], index=[8, 8, 3], **CORNER), "not in the order"),
    "region": (columns(region=[1, 1, 1]), "not numbered"),
    "box": (columns(box_height=[1, 100, 1]), "a box leaves"),
    "wrap": (columns(box_top=[0, 2**31 - 1, 1]), "a box leaves"),
    "no side": (columns(box_height=[1, 0, 1]), "a box leaves"),
    "centre": (columns(row=[0, 0, -1]), "a centre lies outside"),
    "gap": (columns(score=[1, None, 1]), "column score has gaps"),
    "inside": (columns(inside=[b"\1" * 999, b"\1", None]), "do not fit the boxes"),
    "half": (columns(inside=[None, b"\1", None]), "do not fit the boxes|in two ways"),
    "value": (columns(box_height=[1] * 3, box_width=[1] * 3, inside=[b"\1", b"\2", None]), "neither asked nor"),
    "ways": (columns(box_height=[1] * 3, box_width=[1] * 3, inside=[b"\1", None, None]), "in two ways"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_are_no_queries(tmp_path: Path, fault: str) -> None:
    path, (content, message) = tmp_path / "queries.parquet", FAULTS[fault]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_queries(path, SIZES)
    one_line(error.value, path)


def test_a_small_file_does_not_become_a_large_one(tmp_path: Path) -> None:
    path = tmp_path / "queries.parquet"
    path.write_bytes(columns(inside=[b"\1" * (32 << 20)] * 2 + [None]))
    for read in (lambda: read_queries(path, SIZES), lambda: holds_queries(path, [query(3, 3, True, 1)])):
        with pytest.raises(UserError, match="bytes to unpack are more than can be"):
            read()
    path.write_bytes(columns())
    with pytest.raises(UserError, match="more than the pixels"):
        read_queries(path, {"town/3": (1, 1)})


@settings(max_examples=300)
@given(place=st.floats(0, 1, exclude_max=True), length=st.integers(0, 30), content=st.binary(max_size=8))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, place: float, length: int, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    queries = [query(3, 2, True, 1), query(8, 4, False, 2)]
    write_queries(path, queries)
    whole = path.read_bytes()
    at = int(place * len(whole))
    path.write_bytes(whole[:at] + content + whole[at + length :])
    try:
        for each in read_queries(path, SIZES):
            size = SIZES[each.image_id]
            assert list(SIZES)[each.index] == each.image_id
            assert (each.boxes >= (0, 0, 1, 1)).all()
            assert (each.boxes[:, :2] + each.boxes[:, 2:] <= size).all()
            assert ((each.centres >= 0) & (each.centres < size)).all()
            assert each.inside is None or len(each.inside) == (each.boxes[:, 2] * each.boxes[:, 3]).sum()
    except UserError as error:
        one_line(error, path)
