"""Merged stores against painting every answer by hand."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import CLASSES, IMAGES, commit, draw_round, edit_manifest, round_files, slow_images, writer

from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.maintenance import merge_stores, skip_images
from ripu_lightning.labels.rejection import reject_answers


def store_of(folder: Path, *seeds: int) -> LabelStore:
    with writer(folder) as store:
        for seed in seeds:
            commit(store, seed)
    return LabelStore.open(folder)


def test_rounds_one_store_after_the_other(tmp_path: Path) -> None:
    one, two = store_of(tmp_path / "one", 1, 2), store_of(tmp_path / "two", 3)
    before = [round_files(store.folder) for store in (one, two)]
    manifest, conflicts = merge_stores([one, two], tmp_path / "deep" / "merged")
    merged = LabelStore.open(tmp_path / "deep" / "merged", classes=CLASSES, images=IMAGES)
    assert merged.manifest == manifest
    assert [entry.strategy for entry in merged.rounds] == ["s1", "s2", "s3"]
    assert round_files(merged.folder) == {
        "round_001.parquet": before[0]["round_001.parquet"],
        "round_002.parquet": before[0]["round_002.parquet"],
        "round_003.parquet": before[1]["round_001.parquet"],
    }
    differ = 0
    for index, (image, size) in enumerate(IMAGES.items()):
        rounds = [(2, draw_round(seed)[index]) for seed in (1, 2, 3)]
        mask, available, queried = slow_images(size, rounds)
        np.testing.assert_array_equal(merged.mask(image), mask)
        np.testing.assert_array_equal(merged.available(image), available)
        np.testing.assert_array_equal(merged.query_round(image), queried)
        first, _, first_asked = slow_images(size, rounds[:2])
        second, _, second_asked = slow_images(size, rounds[2:])
        for row in range(size[0]):
            for column in range(size[1]):
                both = first_asked[row, column] and second_asked[row, column]
                differ += bool(both) and first[row, column] != second[row, column]
    assert conflicts == differ > 0
    assert [round_files(store.folder) for store in (one, two)] == before
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["merged"]


def test_branches_of_one_store_share_their_root(tmp_path: Path) -> None:
    with writer(tmp_path / "one") as store:
        commit(store, 1)
        commit(store, 2)
        head = store.rounds[-1].sha256
        store.roll_back(1)
        commit(store, 3)
    branch = LabelStore.open(tmp_path / "one")
    with writer(tmp_path / "one") as store:
        store.roll_back(head)
    manifest, _ = merge_stores([LabelStore.open(tmp_path / "one"), branch], tmp_path / "merged")
    assert [entry.strategy for entry in manifest.rounds] == ["s1", "s2", "s3"]
    assert [entry.parent for entry in manifest.rounds] == [None, *(entry.sha256 for entry in manifest.rounds[:2])]
    assert [entry.file for entry in manifest.rounds] == [f"round_00{number}.parquet" for number in (1, 2, 3)]


def test_equal_answers_are_no_conflict(tmp_path: Path) -> None:
    _, conflicts = merge_stores([store_of(tmp_path / name, 1) for name in ("one", "two")], tmp_path / "merged")
    assert conflicts == 0


def test_stores_that_do_not_go_together(tmp_path: Path) -> None:
    one = store_of(tmp_path / "one", 1)
    others = {"classes": (("road", "bus", "sky"), IMAGES), "images": (CLASSES, {**IMAGES, "d": (1, 1)})}
    for kind, (classes, images) in others.items():
        other = LabelStore.create_or_open(tmp_path / kind, classes=classes, images=images)
        with other, pytest.raises(UserError, match=f"{kind} was made with other {kind}"):
            merge_stores([one, other], tmp_path / "merged")
    with pytest.raises(UserError, match="one exists and is not empty"):
        merge_stores([one, one], tmp_path / "one")
    with pytest.raises(UserError, match="cannot write"):
        merge_stores([one], tmp_path / "one" / "lock" / "merged")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes", "images", "one"]


def test_a_file_that_changed_since_it_was_opened(tmp_path: Path) -> None:
    one = store_of(tmp_path / "one", 1)
    path = tmp_path / "one" / "round_001.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="changed while it was copied"):
        merge_stores([one], tmp_path / "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_a_hostile_store_of_other_sizes(tmp_path: Path) -> None:
    """The same images, as its manifest says; its round tells otherwise."""
    one = store_of(tmp_path / "one", 1)
    answers = [replace(each, image_id="c") for each in draw_round(1)[:1]]
    with LabelStore.create_or_open(tmp_path / "two", classes=CLASSES, images={"c": (20, 20)}) as store:
        store.commit(answers, strategy="s", annotator="a", exclusion=1)
    images = [[name, *size] for name, size in one.images.items()]
    edit_manifest(tmp_path / "two", lambda content: content.update(images=images))
    with pytest.raises(UserError, match="image 'c' of 20 x 20 pixels is none of this store"):
        LabelStore.open(tmp_path / "two")
    assert list(LabelStore.salvage(tmp_path / "two").damaged) == [1]


def test_answers_that_another_store_rejected_do_not_come_back(tmp_path: Path) -> None:
    run, copy, merged = tmp_path / "run", tmp_path / "copy", tmp_path / "merged"
    store_of(run, 1)
    shutil.copytree(run, copy)
    skip_images(copy, ["c"])
    reject_answers(run, 1, ["town/b"])
    with writer(run) as store:
        commit(store, 2)  # the corrected answers
    wrong = rf"^round 1 \(\w+\) of {copy}: answers of it were rejected in {run}; reject them there too, or leave"
    for folders in ([run, copy], [copy, run]):
        with pytest.raises(UserError, match=wrong):
            merge_stores([LabelStore.open(folder) for folder in folders], merged)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "run"]
    reject_answers(copy, 1, ["town/b"])
    with writer(copy) as store:
        commit(store, 3)
    manifest, _ = merge_stores([LabelStore.open(run), LabelStore.open(copy)], merged)
    assert [entry.strategy for entry in manifest.rounds] == ["s2", "s3"]
    assert manifest.skipped == ("c",)
