"""Queries to a file and back: not a bit may change between two processes of one run, and no other file is accepted."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.annotation import Query
from ripu_lightning.annotation.queries import holds_queries, read_queries, write_queries
from ripu_lightning.errors import UserError
from ripu_lightning.labels import Answers, round_file

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
        if other is None or (name == "inside" and other.all()):
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
        patch.setattr(round_file, "_ROWS", rows)  # so that images fall into several row groups
        path = Path(folder) / "queries.parquet"
        write_queries(path, queries, SIZES)
        found = read_queries(path, SIZES)
        assert holds_queries(path, queries)
        assert holds_queries(path, queries[1:])
        assert not holds_queries(path, [*queries[1:], query(19, 5, False, 7)])
    expected = [each for each in queries if len(each.centres)]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_through_a_file_below_a_folder_that_looks_like_a_partition(tmp_path: Path) -> None:
    folder = tmp_path / "budget.ratio=0.1"  # as in a sweep
    folder.mkdir()
    path, queries = folder / "queries.parquet", [query(3, 2, True, 1), query(8, 1, False, 2)]
    write_queries(path, queries, SIZES)
    assert pq.ParquetFile(path).read().column("image").to_pylist() == ["town/3", "town/3", "town/8"]
    for one, other in zip(read_queries(path, SIZES), queries, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize(
    "change",
    [
        lambda each: replace(each, rejected=0),
        lambda each: replace(each, rejected=3),
        lambda each: replace(each, image_id="town/9"),
        lambda each: replace(each, inside=~each.inside),
        lambda each: replace(each, inside=None),
        lambda each: query(4, 3, True, 1),
    ],
)
def test_other_queries_are_distinguished(tmp_path: Path, change: Callable[[Query], Query]) -> None:
    path, queries = tmp_path / "queries.parquet", [replace(query(3, 3, True, 1), rejected=2), query(8, 1, False, 2)]
    write_queries(path, queries, SIZES)
    again = [replace(each, scores=each.scores + 1, centres=each.centres[::-1].copy()) for each in queries]
    assert holds_queries(path, again[::-1])  # as after training on a GPU, where scores differ a little
    assert not holds_queries(path, [change(queries[0]), queries[1]])


BACKWARDS = dict(reversed(SIZES.items()))
FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, tuple[int, int]], str]] = {
    "missing": (lambda path: path.unlink(), SIZES, "is missing"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:-1]), SIZES, "is damaged"),
    "order": (lambda _: None, BACKWARDS, "not in the order of the pool"),
    "stranger": (lambda _: None, {"town/8": SIZES["town/8"]}, "'town/3' of 9 x 27 pixels is none of this store"),
    "size": (lambda _: None, {**SIZES, "town/8": (9, 9)}, "'town/8' of 14 x 22 pixels is none of this store"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_files_that_hold_no_such_queries(tmp_path: Path, fault: str) -> None:
    path, (damage, sizes, message) = tmp_path / "queries.parquet", FAULTS[fault]
    write_queries(path, [query(3, 2, False, 1), query(8, 1, False, 2)], SIZES)
    damage(path)
    with pytest.raises(UserError, match=message) as error:
        read_queries(path, sizes)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith("restore it from a backup")


def test_a_file_with_answers_holds_no_queries(tmp_path: Path) -> None:
    path, queried = tmp_path / "queries.parquet", query(3, 2, False, 1)
    values = np.zeros(int((queried.boxes[:, 2] * queried.boxes[:, 3]).sum()), dtype=np.uint8)
    answers = Answers(queried.image_id, queried.centres, queried.boxes, values, queried.scores)
    round_file.write_round(path, [answers], SIZES, 1, "", None)
    with pytest.raises(UserError, match="class index 0, but there are 0 classes"):
        read_queries(path, SIZES)
