"""Stores from other people: the exact content or one clear error, and nothing outside the folder is read or written."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import CLASSES, IMAGES, commit, edit_manifest, replace_round, round_files, writer

from mutations import damaged
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_QUERIED, LabelStore
from ripu_lightning.labels.round_file import SCHEMA


def one_line(error: UserError, path: Path) -> None:
    assert str(path) in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 600


def contents(store: LabelStore) -> list[bytes]:
    """All that a store of the sample images holds."""
    return [store.mask(image).tobytes() + store.query_round(image).tobytes() for image in IMAGES]


@settings(max_examples=200)
@given(data=st.data(), name=st.sampled_from(["manifest.json", "round_001.parquet"]))
def test_a_digest_guards_every_byte(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "guarded"
    if not folder.exists():
        with writer(folder) as store:
            commit(store, 0)
    path, pristine = folder / name, LabelStore.open(folder)
    intact = path.read_bytes()
    try:
        path.write_bytes(data.draw(damaged(intact)))
        found = LabelStore.open(folder, classes=CLASSES, images=IMAGES)
        assert found.manifest == pristine.manifest
        assert contents(found) == contents(pristine)
    except UserError as error:
        one_line(error, path)
        assert path.read_bytes() != intact
    finally:
        path.write_bytes(intact)


def read_all(folder: Path, **options: Any) -> None:
    """Read everything in every way; UserError where it cannot be read, AssertionError where it should not be."""
    store = LabelStore.open(folder, **options)
    for entry in store.rounds:
        queries = 0
        for image in store.queried_images:
            mask, answers = store.mask(image), store.answers(image, entry.number)
            assert store.available(image).shape == store.query_round(image).shape == mask.shape
            assert answers is not None
            queries += len(answers)
            assert set(np.unique(answers.values)) <= {0, 1, 2, NOT_QUERIED, 255}
        assert queries == entry.queries
        file = store.file(entry.number)
        assert file is not None
        file.tally()


def table(rows: int = 2, **columns: Any) -> pa.Table:
    """A round of ``rows`` single pixels of the image ``c``, with other columns in the place of some."""
    zeros, ones = pa.array(np.zeros(rows, np.int32)), pa.array(np.ones(rows, np.int32))
    twelve, text = pa.array(np.full(rows, 12, np.int32)), pa.repeat("x", rows)
    given: dict[str, Any] = dict.fromkeys(("strategy", "annotator", "time"), text)
    given |= {"image": pa.repeat("c", rows), "row": zeros, "column": zeros, "box_top": zeros, "box_left": zeros}
    given |= {"image_height": twelve, "image_width": twelve, "box_height": ones, "box_width": ones}
    given |= {"patch": pa.repeat(pa.scalar(b"\1"), rows), "score": pa.array(np.zeros(rows, np.float32))}
    return pa.Table.from_arrays([{**given, **columns}[name] for name in SCHEMA.names], schema=SCHEMA)


def written(content: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(content, file)
    return file.getvalue()


def numbers(*values: int) -> pa.Array:
    return pa.array(np.array(values, dtype=np.int32))


BIG = 2**31 - 1
TOWN = {"image_height": numbers(12, 9, 12), "image_width": numbers(12, 14, 12)}
CRAFTED: dict[str, tuple[bytes, str]] = {
    "sizes": (written(table(image_height=numbers(12, 13))), "changes its size"),
    "no size": (written(table(image_height=numbers(0, 0))), "none of this store"),
    "negative": (written(table(image_height=numbers(-12, -12))), "none of this store"),
    "outside": (written(table(row=numbers(0, 12))), "box is not inside"),
    "centre": (written(table(row=numbers(0, 12), box_top=numbers(0, -1))), "centre is outside"),
    "wrap": (written(table(row=numbers(0, BIG), box_top=numbers(0, 1))), "box is not inside"),
    "empty box": (written(table(box_height=numbers(1, 0))), "box is not inside"),
    "long box": (written(table(box_height=numbers(1, BIG), box_width=numbers(1, BIG))), "box is not inside"),
    "short patch": (written(table(box_height=numbers(1, 2))), "do not fit the boxes"),
    "long patch": (written(table(patch=pa.array([b"\1", b"\1\1"], pa.binary()))), "do not fit the boxes"),
    "class": (written(table(patch=pa.array([b"\1", b"\3"], pa.binary()))), "class index 3"),
    "gap": (written(table(score=pa.array([1, None], pa.float32()))), "a column has gaps"),
    "no patch": (written(table(patch=pa.array([b"\1", None], pa.binary()))), "a column has gaps"),
    "no image": (written(table(image=pa.array(["c", None]))), "a column has gaps"),
    "twice": (written(table(3, image=pa.array(["c", "town/a", "c"]), **TOWN)), "'c' comes twice"),
    "rows": (written(table(3)), "3 queries, but the manifest says 2"),
    "columns": (written(table().drop_columns("score")), "its columns are not"),
    "text": (b"PAR1 and no more", "is damaged"),
    "nothing": (b"", "is damaged"),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_impossible_rounds_that_the_manifest_confirms(tmp_path: Path, name: str) -> None:
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
    assert "2 pixels, 0 void, but the manifest says 3, 0" in LabelStore.salvage(tmp_path).damaged[1]
    replace_round(tmp_path, written(table(image=pa.repeat("d", 2))), queries=2, pixels=2, void=0)
    with pytest.raises(UserError, match="'d' of 12 x 12 pixels is none of this store"):
        read_all(tmp_path)


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
