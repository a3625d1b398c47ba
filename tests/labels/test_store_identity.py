"""A store is opened by one writer at a time, for the data it was made for, and only while it is whole."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_samples import CLASSES, IMAGES, assert_holds, commit, edit_manifest, writer

from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.maintenance import extend_images

MAP = ClassMap(CLASSES, colors=((9, 9, 9), (8, 8, 8), (7, 7, 7)), ids=((7,), (8, 26), (23,)), ignore=(255,))
HOLDER = """
import os, sys, time
from pathlib import Path
from store_samples import writer
store = writer(Path(sys.argv[1]))
if sys.argv[2] == "alone":
    print(0, flush=True)
elif os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


def hold(folder: Path, kind: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", HOLDER, str(folder), kind]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["alone", "fork"])
def test_a_second_writer_is_refused_until_the_first_dies(tmp_path: Path, kind: str) -> None:
    with hold(tmp_path, kind) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            with pytest.raises(UserError) as caught:
                writer(tmp_path)
            for part in (str(tmp_path), str(holder.pid), socket.gethostname()):
                assert part in str(caught.value)
            assert LabelStore.open(tmp_path).rounds == ()
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with writer(tmp_path) as store:
                made = [commit(store, 0)]
                assert_holds(store, made)
        finally:
            holder.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def test_a_second_writer_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        with pytest.raises(UserError, match=f"process {os.getpid()} on"):
            writer(tmp_path)
        made = [commit(store, 0)]
    store.close()
    with pytest.raises(RuntimeError, match="open for reading only"):
        commit(store, 1)
    assert_holds(store, made)
    with writer(tmp_path) as again:
        made.append(commit(again, 1))
        assert_holds(again, made)


def test_readers_neither_write_nor_need_the_right_to(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
    (tmp_path / "lock").unlink(missing_ok=True)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    reader = LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES)
    assert_holds(reader, made)
    with pytest.raises(RuntimeError, match="open for reading only"):
        commit(reader, 1)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("classes", "images", "difference"),
    [
        (("road", "bus", "sky"), IMAGES, "class 1 is 'car' there, 'bus' here"),
        (("road", "car"), IMAGES, "3 classes there, 2 here"),
        (CLASSES, {**IMAGES, "d": (3, 3), "e": (3, 3)}, "image 'd' is not there; 2 new"),
        (CLASSES, {**IMAGES, "c": (12, 13)}, "image 'c' is 12 x 12 there, 12 x 13 here"),
        (CLASSES, {"town/a": (9, 14), "town/b": (7, 5), "d": (12, 12)}, "image 'c' is missing here"),
        (MAP, IMAGES, ""),
        (
            replace(MAP, colors=((1, 2, 3), (4, 5, 6), (7, 8, 9)), subsets={"flat": ("road",)}),
            IMAGES,
            "",
        ),
        (replace(MAP, ignore=(255, 0)), IMAGES, "the file ids [255] are ignored there, [0, 255] here"),
        (replace(MAP, ids=((8,), (7, 26), (23,))), IMAGES, "class 'road' has the file ids [7] there, [8] here"),
        (replace(MAP, ids=((7,), (26, 8), (23,))), IMAGES, ""),
        (replace(MAP, ids=((23,), (26, 8), (7,))), IMAGES, "class 'road' has the file ids [7] there, [23] here"),
        (replace(MAP, names=("car", "road", "sky")), IMAGES, "class 0 is 'road' there, 'car' here"),
    ],
)
def test_another_identity_is_refused(
    tmp_path: Path, classes: tuple[str, ...] | ClassMap, images: dict[str, tuple[int, int]], difference: str
) -> None:
    with LabelStore.create_or_open(tmp_path, classes=MAP, images=IMAGES) as store:
        made = [commit(store, 0)]
    for opening in (LabelStore.open, LabelStore.create_or_open):
        if not difference:
            with opening(tmp_path, classes=classes, images=images) as store:
                assert store.class_map == MAP  # what its labels were made with
            continue
        with pytest.raises(UserError) as caught:
            opening(tmp_path, classes=classes, images=images)
        assert difference in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert str(caught.value).endswith("choose another output folder")
        assert "\n" not in str(caught.value)
    with writer(tmp_path) as store:
        assert_holds(store, made)


def test_new_images_are_taken_in_and_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no label store"):
        extend_images(tmp_path, CLASSES, IMAGES)
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
        with pytest.raises(UserError, match="is being written"):
            extend_images(tmp_path, CLASSES, IMAGES)
    grown = {"a": (4, 4), **IMAGES, "d": (3, 5)}
    with pytest.raises(UserError, match=r"image 'a' is not there; 2 new\): a run takes new images into its pool"):
        LabelStore.open(tmp_path, images=grown)
    before = (tmp_path / "manifest.json").read_bytes()
    for classes, images, words in (
        (("road", "bus", "sky"), grown, "class 1 is 'car' there"),
        (CLASSES, {**grown, "c": (12, 13)}, "image 'c' is 12 x 12 there, 12 x 13 here"),
        (CLASSES, {name: size for name, size in grown.items() if name != "c"}, "image 'c' is missing here"),
    ):
        with pytest.raises(UserError, match=words):
            extend_images(tmp_path, classes, images)
    assert (tmp_path / "manifest.json").read_bytes() == before
    assert extend_images(tmp_path, CLASSES, grown) == ["a", "d"]
    assert extend_images(tmp_path, CLASSES, grown) == []
    with LabelStore.create_or_open(tmp_path, classes=CLASSES, images=grown) as store:
        assert_holds(store, made)
        assert store.available("d").all()
        assert list(store.images) == list(grown)
    with pytest.raises(UserError, match="image 'a' is missing here"):
        writer(tmp_path)


def test_the_order_of_images_does_not_matter(tmp_path: Path) -> None:
    writer(tmp_path).close()
    backwards = dict(reversed(IMAGES.items()))
    assert LabelStore.open(tmp_path, classes=list(CLASSES), images=backwards).images == IMAGES


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """By somebody who corrects the SHA-256 too."""
    return lambda path: edit_manifest(path.parent, change)


def first(**changes: object) -> Callable[[Path], object]:
    return edit(lambda content: content["rounds"][0].update(changes))


def text(change: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda path: path.write_text(change(path.read_text()))


FILE = "is not the name of a round's file"
DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (text(lambda content: content[:-9]), "damaged"),
    (text(lambda content: ""), "damaged"),
    (text(lambda content: "[1]"), "damaged"),
    (text(lambda content: content.replace('"pixels": ', '"pixels": 1')), "its content does not match its SHA-256"),
    (text(lambda content: content.replace('"sky"', '"sea"')), "its content does not match its SHA-256"),
    (edit(lambda content: content.pop("images")), "damaged"),
    (edit(lambda content: content.update(format=1)), "format 1, this version reads 3"),
    (edit(lambda content: content.update(extra=1)), "its keys are not"),
    (edit(lambda content: content.update(classes="abc")), "not a class map"),
    (edit(lambda content: content["classes"].update(names=["a", 1, "b"])), "1"),
    (edit(lambda content: content["classes"].update(names=[], colors=[], ids=[])), "0 classes"),
    (edit(lambda content: content["classes"].update(names=["a", "b", "\ud800"])), "control character"),
    (edit(lambda content: content["classes"].update(ids=[[1], [1], [2]])), "given twice"),
    (edit(lambda content: content["classes"].update(note="x")), "no key 'note'"),
    (edit(lambda content: content["images"].append(["d", True, 3])), "of the wrong type"),
    (edit(lambda content: content["images"].append(["d", 0, 3])), "impossible size"),
    (edit(lambda content: content["images"].append(["c", 12, 12])), "listed twice"),
    (edit(lambda content: content["images"].append(["\ud800", 3, 3])), "damaged"),
    (edit(lambda content: content["images"].append(["d", 3])), "damaged"),
    (edit(lambda content: content.update(images={})), "its images are no list"),
    (edit(lambda content: content.update(head="ab" * 32)), "its head"),
    (edit(lambda content: content.update(head=7)), "its head 7 is no round"),
    (edit(lambda content: content["rounds"].append(content["rounds"][0])), "is listed twice"),
    (edit(lambda content: content["rounds"].append({**content["rounds"][0], "sha256": "ab" * 32})), "share a file"),
    (edit(lambda content: content.update(rejected={"ab" * 32: {}})), "rejected answers of an active round, or of none"),
    (edit(lambda content: content.update(rejected={content["head"]: {}})), "rejected answers of an active round"),
    (edit(lambda content: content.update(head=None, rejected={content["head"]: {"c": [0]}})), "impossible number"),
    (edit(lambda content: content.update(head=None, rejected={content["head"]: {"c": [True]}})), "of the wrong type"),
    (edit(lambda content: content.update(head=None, rejected={content["head"]: {"c": 1}})), "damaged"),
    (edit(lambda content: content.update(rejected=[1])), "damaged"),
    (edit(lambda content: content.update(skipped=["d"])), "a skipped image is unknown"),
    (edit(lambda content: content.update(skipped=["c", "c"])), "listed twice"),
    (edit(lambda content: content.update(skipped="c")), "skipped images are no list"),
    (first(number=2), "does not follow"),
    (first(parent="ab" * 32), "does not follow"),
    (first(sha256="AB" * 32), "is no SHA-256"),
    (first(exclusion="2"), "exclusion is '2'"),
    (first(exclusion=2**31), "impossible exclusion"),
    (first(exclusion=True), "exclusion is True"),
    (first(pixels=-1), "impossible counts"),
    (first(pixels=1.5), "pixels is 1.5"),
    (first(void=10**6), "impossible counts"),
    (first(extra=1), "damaged"),
    (first(strategy="\ud800"), "damaged"),
    (first(file="../round_001.parquet"), FILE),
    (first(file="/etc/passwd"), FILE),
    (first(file=".."), FILE),
    (first(file="manifest.json"), FILE),
    (first(file="round_001.parquet\n"), FILE),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_manifest_is_reported(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
    path = tmp_path / "manifest.json"
    damage(path)
    before = path.read_text()
    for opening in (LabelStore.open, writer, LabelStore.salvage):
        with pytest.raises(UserError, match=message) as caught:
            opening(tmp_path)
        assert str(path) in str(caught.value)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500
    assert path.read_text() == before


def test_the_samples_of_a_knowing_editor_are_believed(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
    edit_manifest(tmp_path, lambda content: content["rounds"][0].update(strategy="another"))
    found = LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES)
    assert found.rounds[0].strategy == "another"
    assert_holds(found, made)


def test_a_manifest_that_is_not_text_is_reported(tmp_path: Path) -> None:
    writer(tmp_path).close()
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        LabelStore.open(tmp_path)


def test_a_damaged_or_missing_round_is_reported_with_the_fix(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    with writer(folder) as store:
        commit(store, 0)
        commit(store, 1)
    path = folder / "round_002.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    fix = f"restore it from a backup, or continue without it: ripu-labels rollback '{folder}' 1"
    for damage in ("is damaged (its SHA-256 is not the manifest's)", "is missing"):
        for opening in (LabelStore.open, writer):
            with pytest.raises(UserError) as caught:
                opening(folder)
            assert str(caught.value) == f"{path} {damage}: {fix}"
        path.unlink(missing_ok=True)


def test_rounds_whose_manifest_was_lost_are_not_overwritten(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"round_001\.parquet exists without manifest\.json"):
        writer(tmp_path)
    with pytest.raises(UserError, match="no label store in"):
        LabelStore.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        writer(tmp_path / "file" / "store")


def test_more_classes_than_a_byte_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="255 classes"):
        LabelStore.create_or_open(tmp_path, classes=[str(k) for k in range(255)], images=IMAGES)
    writer(tmp_path).close()
