"""Statistics: plain counts, read once for each fingerprint; checks that are not repeated."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.cache import DataCache, read_complete, write_complete
from ripu_lightning.data.statistics import NAME, Statistics, keep_statistics, load_statistics, read_statistics
from ripu_lightning.errors import UserError
from tiny import Blocks, Stamped


def by_hand(dataset: Blocks) -> list[tuple[tuple[int, int], list[int], int]]:
    rows = []
    for index in range(len(dataset)):
        label = Blocks.label(dataset, index).ravel().tolist()
        rows.append((dataset.size(index), [label.count(0), label.count(1), label.count(2)], label.count(255)))
    return rows


def rows(statistics: Statistics) -> list[tuple[tuple[int, int], list[int], int]]:
    parts = (statistics.sizes.tolist(), statistics.pixels.tolist(), statistics.ignored.tolist())
    return [(tuple(size), pixels, ignored) for size, pixels, ignored in zip(*parts, strict=True)]


@pytest.mark.parametrize("workers", [0, 2])
def test_counts_are_those_of_the_labels(workers: int) -> None:
    dataset = Blocks("counted", 4)
    statistics = read_statistics(dataset, workers=workers)
    assert rows(statistics) == by_hand(dataset)
    assert statistics.pixels.dtype == np.int64


def test_images_are_decoded_only_where_asked_and_truth_that_is_not_there_is_not() -> None:
    dataset = Stamped()
    dataset.closed = {"image"}
    read_statistics(dataset)
    dataset.has_labels, dataset.closed = False, {"label"}
    statistics = read_statistics(dataset, images=True)
    assert dataset.opened[-5:] == [("image", index) for index in range(5)]
    assert not statistics.pixels.any()
    assert statistics.sizes.tolist() == [[24, 32]] * 5


@pytest.mark.parametrize("workers", [0, 2])
def test_faults_are_all_told_in_order_or_the_first_is_raised(workers: int) -> None:
    dataset = Stamped()
    dataset.broken = {("image", 3), ("label", 1), ("label", 3)}
    faults: list[str] = []
    found = rows(read_statistics(dataset, images=True, faults=faults, workers=workers))
    assert faults == ["stamped_1: broken label", "stamped_3: broken image", "stamped_3: broken label"]
    assert found[0] == by_hand(dataset)[0]
    assert found[1] == ((24, 32), [0, 0, 0], 0)
    with pytest.raises(UserError, match="stamped_1: broken label"):
        read_statistics(dataset, images=True, workers=workers)


def test_labels_are_counted_once_for_each_fingerprint(tmp_path: Path) -> None:
    cache = DataCache(tmp_path / "cache")
    first = load_statistics(Stamped(), cache)
    again = Stamped()
    again.closed = {"image", "label"}
    assert rows(load_statistics(again, DataCache(tmp_path / "cache"))) == rows(first) == by_hand(again)
    for other in ("abd", None):
        dataset = Stamped(fingerprint=other)
        load_statistics(dataset, cache)
        assert len(dataset.opened) == 5
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["abc", "abd"]
    assert load_statistics(dataset, DataCache(None)).pixels.any()


@pytest.mark.parametrize("damage", ["empty", "half", "text", "other", "bits"])
def test_damaged_statistics_are_counted_again(tmp_path: Path, damage: str) -> None:
    cache = DataCache(tmp_path)
    load_statistics(Stamped(length=4 if damage == "other" else 5), cache)
    path = tmp_path / "abc" / NAME
    whole = path.read_bytes()
    broken = {"empty": b"", "half": whole[: len(whole) // 2], "text": b"not an archive", "other": whole}
    for position in range(0, len(whole), 37) if damage == "bits" else [0]:
        flipped = whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :]
        path.write_bytes(broken.get(damage, flipped))
        assert rows(load_statistics(Stamped(), cache)) == by_hand(Blocks("stamped"))
    untouched = Stamped()
    untouched.closed = {"label"}
    load_statistics(untouched, cache)


def test_a_cache_that_can_not_be_written_or_read_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = DataCache(tmp_path / "file")
    with pytest.warns(UserWarning, match=r"cannot write .*file"):
        assert rows(load_statistics(Stamped(), cache)) == by_hand(Blocks("stamped"))


def test_home_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    DataCache("~/derived").mark_checked(Stamped(), labels=True)
    assert (tmp_path / "derived" / "abc" / "checked").is_file()


def test_many_writers_of_one_file_leave_one_whole_content(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    contents = [bytes([number]) * 200_000 for number in range(8)]
    found = set()

    def write(content: bytes) -> None:
        write_complete(path, content)
        found.add(read_complete(path))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents * 5))
    assert found <= set(contents)
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_what_was_checked_is_not_checked_again(tmp_path: Path) -> None:
    def opened(labels: bool, fingerprint: str | None = "abc") -> int:
        dataset = Stamped(fingerprint=fingerprint)
        DataCache(tmp_path).check(dataset, labels)
        return len(dataset.opened)

    assert [opened(False), opened(False)] == [5, 0]
    assert [opened(True), opened(True), opened(False)] == [10, 0, 0]  # images alone were not the whole
    assert [opened(True, "abd"), opened(False, "abd")] == [10, 0]
    assert [opened(True, None), opened(True, None)] == [10, 10]


def test_a_view_without_labels_leaves_the_whole_unchecked_and_uncounted(tmp_path: Path) -> None:
    cache, hidden, whole = DataCache(tmp_path), Stamped(), Stamped()
    hidden.has_labels = False
    cache.check(hidden)
    keep_statistics(hidden, cache, read_statistics(hidden, images=True))
    assert {kind for kind, _ in hidden.opened} == {"image"}
    cache.check(whole)
    assert len(whole.opened) == 10
    assert rows(load_statistics(whole, cache)) == by_hand(whole)


def test_a_failed_check_is_repeated(tmp_path: Path) -> None:
    dataset = Stamped()
    dataset.broken = {("label", 2)}
    for _ in range(2):
        with pytest.raises(UserError, match="stamped_2: broken label"):
            DataCache(tmp_path).check(dataset)


def test_the_datamodule_reads_each_data_set_once(tmp_path: Path) -> None:
    def sets() -> list[Stamped]:
        return [Stamped(name, 3, fingerprint=name) for name in ("source", "target", "val")]

    first, second = sets(), sets()
    for group in (first, second):
        ActiveDataModule(*group, source_sampling="class_balanced", cache=str(tmp_path)).check()
    assert [len(dataset.opened) for dataset in first] == [9, 6, 6]  # the source's labels are counted too
    assert [len(dataset.opened) for dataset in second] == [0, 0, 0]
