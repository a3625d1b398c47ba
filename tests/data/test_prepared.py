"""Prepared data: the same batches as resizing when read, and damaged files are reported."""

import multiprocessing
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import forked
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.memory import Kind
from ripu_lightning.data.prepared import PreparedFolder, Resized
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError
from ripu_lightning.labels import Answers, LabelStore, QueriedLabels, Stage
from tiny import CLASSES, Blocks, Stamped

SIZE = (10, 14)
LIMITED = """
import resource, sys
from pathlib import Path
from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.prepared import PreparedFolder
from ripu_lightning.errors import UserError
from tiny import Stamped
cache = DataCache(sys.argv[1])
folder = PreparedFolder(Stamped(), "images", (10, 14), cache.place(Stamped()))
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    folder.prepare(0, "preparing")
except UserError as error:
    print(str(error).split(" while")[0])
"""


def prepared(dataset: Stamped, cache: DataCache, kind: Kind = "images", workers: int = 0) -> PreparedFolder:
    folder = PreparedFolder(dataset, kind, SIZE, cache.place(dataset))
    folder.prepare(workers, "preparing")
    return folder


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    found = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): (path.stat().st_mtime_ns, path.read_bytes()) for path in found}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_prepared_files_hold_what_resizing_gives(tmp_path: Path, kind: Kind, workers: int) -> None:
    cache, dataset = DataCache(tmp_path), Stamped()
    dataset.ids[2] = "town/2"
    folder = prepared(dataset, cache, kind, workers)
    assert folder.folder.parent.name.startswith("10x14-")
    assert {path.name for path in folder.folder.parent.iterdir()} == {kind, f"{kind}.json"}
    assert (folder.folder / "town" / "2.png").is_file()
    closed = Stamped()
    closed.ids[2] = "town/2"
    closed.closed = {"image", "label"}
    from_disk, on_the_fly = Resized(closed, SIZE, cache), Resized(dataset, SIZE, DataCache(None))
    for index in range(5):
        read = [view.image(index) if kind == "images" else view.label(index) for view in (from_disk, on_the_fly)]
        assert read[0].dtype == np.uint8
        np.testing.assert_array_equal(read[0], read[1])


def test_without_a_size_or_a_cache_nothing_changes(tmp_path: Path) -> None:
    dataset = Stamped()
    prepared(dataset, DataCache(tmp_path))
    for view in (Resized(dataset, None, DataCache(tmp_path)), Resized(dataset, (24, 32), DataCache(tmp_path))):
        np.testing.assert_array_equal(view.label(1), dataset.label(1))
    np.testing.assert_array_equal(Resized(dataset, None, DataCache(tmp_path)).image(1), dataset.image(1))


def everything(data: ActiveDataModule) -> list[Tensor | list[Any]]:
    """All that the loaders give: three stages of training, validation, the pool with regions, the source."""

    def segment(picture: np.ndarray, image_id: str) -> Tensor:
        return torch.from_numpy(picture.astype(np.int64).sum(axis=2) + len(image_id))

    found: list[Tensor | list[Any]] = []
    for batch, _, _ in iter(data.train_dataloader()):
        found += [batch[domain][key] for domain in ("source", "target") for key in ("image", "label")]
    for loader in (data.val_dataloader(), data.pool_dataloader(segment), data.source_dataloader()):
        for batch in loader:
            found += [batch.image, *batch.labels, *batch.regions, [batch.ids, batch.sizes]]
    return found


@pytest.mark.parametrize(("target_labels", "num_workers"), [("queried", 0), ("all", 2)])
def test_batches_are_bit_identical(tmp_path: Path, target_labels: str, num_workers: int) -> None:
    def build(cache: str | None, domains: list[Stamped]) -> ActiveDataModule:
        return ActiveDataModule(
            *domains, source_size=SIZE, target_size=SIZE, cache=cache, target_labels=target_labels,
            augment=["flip", "scale", "color"], num_workers=num_workers, eval_batch_size=2,
        )  # fmt: skip

    def domains() -> list[Stamped]:
        return [Stamped("source", 4, "aaa"), Stamped("target!", 5, "bbb"), Stamped("val", 3, "ccc")]

    cache, plain, ready = DataCache(tmp_path), build(None, domains()), build(str(tmp_path), domains())
    for dataset in (ready.source, ready.target, ready.target_eval):
        prepared(dataset, cache)
    prepared(ready.source, cache, "labels")
    ready.source.closed, ready.target_eval.closed = {"image", "label"}, {"image"}
    answers = [  # a box 2x3 at (4, 2) of the target's own resolution
        Answers(
            image_id,
            np.array([[4, 3]], dtype=np.int32),
            np.array([[4, 2, 2, 3]], dtype=np.int32),
            np.array([0, 1, 2, 255, 0, 1], dtype=np.uint8),
            np.array([0.5], dtype=np.float32),
        )
        for image_id in ready.target.ids
    ]
    images = dict.fromkeys(ready.target.ids, (24, 32))
    with LabelStore.create_or_open(tmp_path / "labels", classes=CLASSES.names, images=images) as store:
        store.commit(answers, strategy="hand", annotator="hand", exclusion=0)
        for data in (plain, ready):
            data.begin_stage(Stage(1, 0, 9, QueriedLabels(store, 1)))
        pairs = list(zip(everything(plain), everything(ready), strict=True))
    for one, other in pairs:
        assert torch.equal(one, other) if isinstance(one, Tensor) else one == other
    assert len(pairs) == 9 * 4 + (2 + 3 + 2) + (3 + 5 + 3) + 2 * 2


def test_half_a_preparation_is_not_read_and_goes_on(tmp_path: Path) -> None:
    cache, dataset = DataCache(tmp_path), Stamped()
    dataset.broken = {("image", 3)}
    with pytest.raises(UserError, match="stamped_3: broken image"):
        prepared(dataset, cache)
    before = files(tmp_path)
    assert [Path(name).name for name in sorted(before)] == [f"stamped_{index}.png" for index in range(3)]
    half = Stamped()
    Resized(half, SIZE, cache).image(0)
    assert half.opened == [("image", 0)]
    rest = Stamped()
    folder = PreparedFolder(rest, "images", SIZE, cache.place(rest))
    assert folder.prepare(0, "preparing") == 2
    assert rest.opened == [("image", 3), ("image", 4)]
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert folder.prepare(0, "preparing") == 0
    assert files(tmp_path) == after


class Slow(Stamped):
    """Takes its time, so that it can be killed."""

    def image(self, index: int) -> np.ndarray:
        time.sleep(0.05)
        return super().image(index)


def test_a_killed_preparation_goes_on(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=prepared, args=(Slow(length=40), DataCache(tmp_path)))
    process.start()
    while not list(tmp_path.rglob("*.png")):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    folder = prepared(Stamped(length=40), DataCache(tmp_path))
    alone = prepared(Stamped(length=40), DataCache(tmp_path / "alone"))
    for index in range(40):
        np.testing.assert_array_equal(folder.read(index), alone.read(index))


@pytest.mark.parametrize("damage", ["missing", "empty", "half", "text", "size", "channels"])
def test_a_damaged_file_is_named_and_done_without(tmp_path: Path, damage: str) -> None:
    cache = DataCache(tmp_path)
    folder = prepared(Stamped(), cache)
    path = folder.folder / "stamped_1.png"
    whole = path.read_bytes()
    broken = {"empty": b"", "half": whole[: len(whole) // 2], "text": b"not a picture"}
    path.write_bytes(broken.get(damage, whole))
    if damage == "missing":
        path.unlink()
    elif damage in {"size", "channels"}:
        shape = (9, 14, 3) if damage == "size" else SIZE
        Image.fromarray(np.full(shape, 7, dtype=np.uint8)).save(path)
    with pytest.warns(UserWarning, match="prepared file") as caught:
        found = Resized(Stamped(), SIZE, cache).image(1)
    np.testing.assert_array_equal(found, Resized(Stamped(), SIZE, DataCache(None)).image(1))
    line = str(caught[0].message)
    assert str(path) in line
    assert "remove it and start ripu-data prepare again" in line
    assert "\n" not in line
    path.unlink(missing_ok=True)
    assert prepared(Stamped(), cache).read(1).shape == (10, 14, 3)
    assert path.read_bytes() == whole


def test_other_content_or_size_is_prepared_apart(tmp_path: Path) -> None:
    cache = DataCache(tmp_path)
    prepared(Stamped(), cache)
    for dataset, size in ((Stamped(fingerprint="abd"), SIZE), (Stamped(), (11, 14)), (Stamped(fingerprint=None), SIZE)):
        Resized(dataset, size, cache).image(0)
        assert dataset.opened == [("image", 0)]


@pytest.mark.parametrize("version", ["torch.__version__", "ripu_lightning.data.prepared.OPENCV", "PIL.__version__"])
@pytest.mark.parametrize("broken", [{("image", 3)}, set()])
def test_another_release_is_prepared_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: set[tuple[str, int]], version: str
) -> None:
    """Also where the first one was cut off: pictures of two releases are never mixed."""
    cache, dataset = DataCache(tmp_path), Stamped()
    dataset.broken = broken
    old = PreparedFolder(dataset, "images", SIZE, cache.place(dataset))
    with suppress(UserError):
        old.prepare(0, "preparing")
    before = files(tmp_path)
    monkeypatch.setattr(version, "9.9.9")
    closed = Stamped()
    closed.closed = {"image"}
    with pytest.raises(AssertionError):  # read and resized again, not taken from the cache
        Resized(closed, SIZE, cache).image(0)
    new = PreparedFolder(Stamped(), "images", SIZE, cache.place(dataset))
    assert new.prepare(0, "preparing") == 5
    assert old.complete == (not broken)
    assert new.complete
    assert {name: content for name, content in files(tmp_path).items() if name in before} == before


def test_a_file_that_is_cut_off_while_it_is_written_has_no_name(tmp_path: Path) -> None:
    """The system refuses files above 300 bytes, less than a picture needs."""
    done = forked.run([sys.executable, "-c", LIMITED, str(tmp_path)], cwd=Path(__file__).parents[1])
    assert (done.returncode, done.stdout) == (0, "no space left\n"), done.stderr
    assert files(tmp_path) == {}


def test_a_view_without_labels_finds_no_prepared_ones(tmp_path: Path) -> None:
    """The same tree may be the source of another run, whose labels were prepared."""
    cache = DataCache(tmp_path)
    prepared(Stamped(), cache, "labels")
    with pytest.raises(RuntimeError, match="must not be read"):
        Resized(Unlabelled(Stamped()), SIZE, cache).label(1)


def test_ids_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    dataset = Stamped()
    dataset.ids[1] = "../outside"
    with pytest.raises(UserError, match=r"\.\./outside"):
        prepared(dataset, DataCache(tmp_path))
    assert files(tmp_path) == {}


def test_a_disk_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*abc"):
        prepared(Stamped(), DataCache(tmp_path))


def test_blocks_without_a_fingerprint_have_no_place(tmp_path: Path) -> None:
    assert DataCache(tmp_path).place(Blocks("plain")) is None
