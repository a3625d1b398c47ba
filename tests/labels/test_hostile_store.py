"""Stores from elsewhere: the exact content or one clear error, whatever bytes they hold, and never much memory."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import CLASSES, IMAGES, commit, edit_manifest, replace_round, round_files, writer

from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_ASKED, LabelStore
from ripu_lightning.labels.rounds import SCHEMA


@contextmanager
def peak() -> Iterator[pa.MemoryPool]:
    """A pool that tells how much memory Arrow took inside the block."""
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        yield pool
    finally:
        pa.set_memory_pool(usual)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A flipped byte, a cut, a part twice, a part lost, a part elsewhere, or nothing."""
    kind = draw(st.sampled_from(["flip", "flip", "cut", "copy", "lose", "overwrite", "none"]))
    places = draw(st.lists(st.floats(0, 1, exclude_max=True), min_size=3, max_size=3))
    length, mask, near_end = draw(st.integers(1, 60)), draw(st.integers(1, 255)), draw(st.booleans())

    def damage(content: bytes) -> bytes:
        # The footer is the richest part of a Parquet file: look there as often as at all the rest.
        first = len(content) // 2 if near_end else 0
        one, two = sorted(first + int(place * (len(content) - first)) for place in places[:2])
        part = content[one : one + length]
        return {
            "flip": content[:one] + bytes([content[one] ^ mask]) + content[one + 1 :],
            "cut": content[:one],
            "copy": content[:two] + part + content[two:],
            "lose": content[:one] + content[one + length :],
            "overwrite": content[:two] + part + content[two + len(part) :],
            "none": content,
        }[kind]

    return damage


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two rounds in force and one set aside."""
    folder = tmp_path_factory.mktemp("sample")
    with writer(folder) as store:
        for seed in range(2):
            commit(store, seed)
        store.roll_back(1)
        commit(store, 2)
    return folder


@pytest.fixture(scope="module")
def pristine(sample: Path) -> LabelStore:
    return LabelStore.open(sample)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    with writer(folder) as store:
        commit(store, 0)
    return folder


def one_line(error: UserError, path: Path) -> None:
    assert str(path) in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 600


def contents(store: LabelStore) -> list[tuple[bytes, ...]]:
    """All that a store of the sample images holds."""
    images = [store.mask(image).tobytes() + store.asked(image).tobytes() for image in IMAGES]
    columns = [
        tuple(getattr(answers, name).tobytes() for name in ("centres", "boxes", "values", "scores"))
        for entry in store.rounds
        for image in IMAGES
        if (answers := store.answers(image, entry.number)) is not None
    ]
    return [tuple(images), *columns]


@settings(max_examples=300)
@given(damage=damages())
def test_any_manifest(sample: Path, pristine: LabelStore, damage: Callable[[bytes], bytes]) -> None:
    path = sample / "manifest.json"
    whole = path.read_bytes()
    try:
        path.write_bytes(damage(whole))
        found = LabelStore.open(sample, classes=CLASSES, images=IMAGES)
        assert found.manifest == pristine.manifest
        assert contents(found) == contents(pristine)
    except UserError as error:
        one_line(error, path)
        assert path.read_bytes() != whole
    finally:
        path.write_bytes(whole)


@settings(max_examples=200)
@given(damage=damages())
def test_any_round_under_its_manifest(single: Path, damage: Callable[[bytes], bytes]) -> None:
    path = single / "round_001.parquet"
    whole = path.read_bytes()
    try:
        path.write_bytes(damage(whole))
        if path.read_bytes() == whole:
            LabelStore.open(single)
            return
        with pytest.raises(UserError, match="its SHA-256 is not the manifest's") as caught:
            LabelStore.open(single)
        one_line(caught.value, path)
    finally:
        path.write_bytes(whole)


def read_all(folder: Path, **options: Any) -> None:
    """Read everything in every way; UserError where it can not be, AssertionError where it should not."""
    store = LabelStore.open(folder, **options)
    for entry in store.rounds:
        queries = 0
        for image in store.touched:
            mask, answers = store.mask(image), store.answers(image, entry.number)
            assert store.available(image).shape == store.asked(image).shape == mask.shape
            assert answers is not None
            queries += len(answers)
            assert (answers.boxes[:, :2] >= 0).all()
            assert (answers.boxes[:, :2] + answers.boxes[:, 2:] <= mask.shape).all()
            assert (answers.centres >= 0).all()
            assert (answers.centres < mask.shape).all()
            assert set(np.unique(answers.values)) <= {0, 1, 2, NOT_ASKED, 255}
        assert queries == entry.queries
        store.file(entry.number).tally()


@settings(max_examples=400)
@given(damage=damages(), known=st.booleans())
def test_any_round_that_its_manifest_believes(
    single: Path, tmp_path_factory: pytest.TempPathFactory, damage: Callable[[bytes], bytes], known: bool
) -> None:
    folder = tmp_path_factory.mktemp("believed")
    shutil.copy(single / "manifest.json", folder)
    whole = (single / "round_001.parquet").read_bytes()
    replace_round(folder, damage(whole))
    with peak() as memory:
        try:
            read_all(folder, **({"classes": CLASSES, "images": IMAGES} if known else {}))
        except UserError as error:
            one_line(error, folder / "round_001.parquet")
    shutil.rmtree(folder)
    assert memory.max_memory() < 16 << 20


def test_a_footer_that_would_end_the_process(single: Path, tmp_path: Path) -> None:
    """Some of these flips make Arrow's own view of a column's metadata abort: nobody may look at it."""
    shutil.copy(single / "manifest.json", tmp_path)
    whole = (single / "round_001.parquet").read_bytes()
    start = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    for place in range(start, start + 200):
        replace_round(tmp_path, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            read_all(tmp_path)
        except UserError as error:
            one_line(error, tmp_path / "round_001.parquet")
            refused += 1
    assert refused > 100


def table(rows: int = 2, **columns: Any) -> pa.Table:
    """A round of ``rows`` single pixels of the image ``c``, with other columns in the place of some."""
    zeros, ones = pa.array(np.zeros(rows, np.int32)), pa.array(np.ones(rows, np.int32))
    twelve, text = pa.array(np.full(rows, 12, np.int32)), pa.repeat("x", rows)
    given: dict[str, Any] = dict.fromkeys(("strategy", "annotator", "time"), text)
    given |= {"image": pa.repeat("c", rows), "row": zeros, "column": zeros, "box_top": zeros, "box_left": zeros}
    given |= {"image_height": twelve, "image_width": twelve, "box_height": ones, "box_width": ones}
    given |= {"patch": pa.repeat(pa.scalar(b"\1"), rows), "score": pa.array(np.zeros(rows, np.float32))}
    return pa.Table.from_arrays([{**given, **columns}[name] for name in SCHEMA.names], schema=SCHEMA)


def written(content: pa.Table, **options: Any) -> bytes:
    file = io.BytesIO()
    defaults = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    pq.write_table(content, file, **{**defaults, **options})
    return file.getvalue()


def numbers(*values: int) -> pa.Array:
    return pa.array(np.array(values, dtype=np.int32))


BIG = 2**31 - 1
CRAFTED: dict[str, tuple[bytes, str]] = {
    "sizes": (written(table(image_height=numbers(12, 13))), "changes its size"),
    "no size": (written(table(image_height=numbers(0, 0))), "0 x 12 pixels can not be"),
    "negative": (written(table(image_height=numbers(-12, -12), image_width=numbers(-12, -12))), "can not be"),
    "huge": (written(table(image_height=numbers(BIG, BIG), image_width=numbers(BIG, BIG))), "can not be"),
    "outside": (written(table(row=numbers(0, 12))), "box leaves"),
    "centre": (written(table(row=numbers(0, 12), box_top=numbers(0, -1))), "centre lies outside"),
    "wrap": (written(table(row=numbers(0, BIG), box_top=numbers(0, 1))), "box leaves"),
    "empty box": (written(table(box_height=numbers(1, 0))), "box leaves"),
    "long box": (written(table(box_height=numbers(1, BIG), box_width=numbers(1, BIG))), "box leaves"),
    "short patch": (written(table(box_height=numbers(1, 2))), "do not fit the boxes"),
    "long patch": (written(table(patch=pa.array([b"\1", b"\1\1"], pa.binary()))), "do not fit the boxes"),
    "class": (written(table(patch=pa.array([b"\1", b"\3"], pa.binary()))), "class index 3"),
    "gap": (written(table(score=pa.array([1, None], pa.float32()))), "column score has gaps"),
    "no patch": (written(table(patch=pa.array([b"\1", None], pa.binary()))), "do not fit"),
    "no image": (written(table(image=pa.array(["c", None]))), "column image has gaps"),
    "twice": (written(table(3, image=pa.array(["c", "a", "c"]))), "'c' comes twice"),
    "rows": (written(table(3)), "3 queries, but the manifest tells of 2"),
    "columns": (written(table().drop_columns("score")), "its columns are not"),
    "text": (b"PAR1 and no more", "is damaged"),
    "nothing": (b"", "is damaged"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_rounds_that_can_not_be(tmp_path: Path, name: str) -> None:
    content, message = CRAFTED[name]
    with writer(tmp_path) as store:
        commit(store, 0)
    rows = 3 if name == "twice" else 2
    replace_round(tmp_path, content, queries=rows, pixels=rows, void=0)
    with pytest.raises(UserError, match=message) as caught:
        read_all(tmp_path)
    one_line(caught.value, tmp_path / "round_001.parquet")
    assert list(LabelStore.salvage(tmp_path).damaged) == [1]


def test_a_crafted_round_without_a_fault_is_read(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
    replace_round(tmp_path, written(table()), queries=2, pixels=2, void=0)
    read_all(tmp_path, classes=CLASSES, images=IMAGES)
    replace_round(tmp_path, written(table()), queries=2, pixels=3, void=0)
    assert "2 pixels, 0 void, but the manifest tells of 3, 0" in LabelStore.salvage(tmp_path).damaged[1]
    replace_round(tmp_path, written(table(image=pa.repeat("d", 2))), queries=2, pixels=2, void=0)
    read_all(tmp_path)
    with pytest.raises(UserError, match="'d' of 12 x 12 pixels is none of this store"):
        read_all(tmp_path, images=IMAGES)


def wide(rows: int, patch: Any, **options: Any) -> bytes:
    """A round about single pixels of a large image, with these answers."""
    side = pa.array(np.full(rows, 1200, np.int32))
    columns = table(rows, image_height=side, image_width=side).drop_columns("patch")
    given = pa.table([*columns.columns, patch], [*columns.column_names, "patch"]).select(SCHEMA.names)
    return written(given, store_schema=False, **options)


def zeros(megabytes: float) -> pa.Scalar:
    return pa.scalar(b"\0" * int(megabytes * (1 << 20)), pa.binary())


BOMBS: dict[str, tuple[int, Callable[[], bytes], str]] = {
    # Plain, but a ten thousandth of its size when compressed.
    "pages": (4, lambda: wide(4, pa.repeat(zeros(16), 4)), "bytes to unpack are more than can be"),
    # One value that every row names, as a hundred megabytes of answers.
    "dictionary": (
        10_000,
        lambda: wide(10_000, pa.repeat(zeros(0.01), 10_000), use_dictionary=["patch"]),
        "encoding 2 is not used here",
    ),
    # Each value is the one before.
    "prefixes": (
        10_000,
        lambda: wide(10_000, pa.repeat(zeros(0.01), 10_000), column_encoding={"patch": "DELTA_BYTE_ARRAY"}),
        "encoding 7 is not used here",
    ),
    # Boxes as large as the image in every row.
    "boxes": (
        1_000,
        lambda: written(table(1_000, **{name: numbers(*[2**14] * 1_000) for name in SIDES})),
        "bytes of answers in a row group are more than can be",
    ),
}
SIDES = ("image_height", "image_width", "box_height", "box_width")


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_does_not_become_a_large_one(tmp_path: Path, kind: str) -> None:
    rows, make, message = BOMBS[kind]
    content = make()
    assert len(content) < 1 << 20
    with writer(tmp_path) as store:
        commit(store, 0)
    replace_round(tmp_path, content, queries=rows, pixels=rows, void=0)
    with peak() as memory, pytest.raises(UserError, match=message) as caught:
        read_all(tmp_path)
    one_line(caught.value, tmp_path / "round_001.parquet")
    assert memory.max_memory() < 16 << 20


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "store") as store:
        commit(store, 0)
    for name in ("round_001.parquet", "manifest.json"):
        path = tmp_path / "store" / name
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
        with pytest.raises(UserError, match="a symbolic link leads out of the folder") as caught:
            LabelStore.open(tmp_path / "store")
        one_line(caught.value, path)
        path.unlink()
        (tmp_path / name).rename(path)
    path.rename(path.with_name("other.json"))
    path.symlink_to("other.json")  # one that stays inside is fine
    (tmp_path / "linked").symlink_to(tmp_path / "store")
    assert len(LabelStore.open(tmp_path / "linked").rounds) == 1


@pytest.mark.parametrize("name", ["lock", ".manifest.json.tmp", ".round_002.parquet.tmp", "round_002.parquet"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str) -> None:
    with writer(tmp_path / "store") as store:
        commit(store, 0)
    (tmp_path / "precious").write_text("do not touch")
    (tmp_path / "store" / name).unlink(missing_ok=True)
    (tmp_path / "store" / name).symlink_to(tmp_path / "precious")
    try:
        with writer(tmp_path / "store") as store:
            commit(store, 1)
        assert name != "lock"
        assert sorted(round_files(tmp_path / "store")) == ["round_001.parquet", "round_002.parquet"]
    except UserError as error:
        assert name == "lock"
        one_line(error, tmp_path / "store" / name)
    assert (tmp_path / "precious").read_text() == "do not touch"


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
    (tmp_path / "round_001.parquet").unlink()
    (tmp_path / "round_001.parquet").mkdir()
    with pytest.raises(UserError, match="not a plain file"):
        LabelStore.open(tmp_path)


def test_text_that_steers_a_terminal_stays_out_of_the_line(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
    edit_manifest(tmp_path, lambda content: content["rounds"][0].update(file="\x1b[2J" + "x" * 10_000))
    with pytest.raises(UserError) as caught:
        LabelStore.open(tmp_path)
    one_line(caught.value, tmp_path / "manifest.json")
