"""A store is opened by one writer at a time, for the data it was made for, and only while it is whole."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_samples import CLASSES, IMAGES, assert_holds, commit, writer

from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore

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
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
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
    (tmp_path / "lock").unlink()
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
        (CLASSES, {**IMAGES, "d": (3, 3)}, "3 images there, 4 here"),
        (CLASSES, {**IMAGES, "c": (12, 13)}, "other image ids or sizes"),
        (CLASSES, {"town/a": (9, 14), "town/b": (7, 5), "d": (12, 12)}, "other image ids or sizes"),
    ],
)
def test_another_identity_is_refused(
    tmp_path: Path, classes: tuple[str, ...], images: dict[str, tuple[int, int]], difference: str
) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
    for opening in (LabelStore.open, LabelStore.create_or_open):
        with pytest.raises(UserError) as caught:
            opening(tmp_path, classes=classes, images=images)
        assert difference in str(caught.value)
        assert str(tmp_path) in str(caught.value)
        assert str(caught.value).endswith("choose another output folder")
        assert "\n" not in str(caught.value)
    with writer(tmp_path) as store:
        assert_holds(store, made)


def test_the_order_of_images_does_not_matter(tmp_path: Path) -> None:
    writer(tmp_path).close()
    LabelStore.open(tmp_path, classes=list(CLASSES), images=dict(reversed(IMAGES.items())))


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def function(text: str) -> str:
        content = json.loads(text)
        change(content)
        return json.dumps(content)

    return function


DAMAGES: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text[:-9], "damaged"),
    (lambda text: "", "damaged"),
    (lambda text: "[1]", "damaged"),
    (lambda text: "[" * 100_000, "damaged"),
    (edit(lambda content: content.pop("images")), "damaged"),
    (edit(lambda content: content.update(format=2)), "format 2, this version reads 1"),
    (edit(lambda content: content["rounds"][0].update(number=2)), "damaged"),
    (edit(lambda content: content["rounds"][0].update(exclusion="2")), "damaged"),
    (edit(lambda content: content["rounds"][0].update(pixels=-1)), "damaged"),
    (edit(lambda content: content["rounds"][0].update(extra=1)), "damaged"),
    (edit(lambda content: content["rounds"][0].update(file="../round_001.parquet")), "not a plain file name"),
    (edit(lambda content: content["rounds"][0].update(file="/etc/passwd")), "not a plain file name"),
    (edit(lambda content: content["rounds"][0].update(file="..")), "not a plain file name"),
    (edit(lambda content: content["rounds"][0].update(file="a\n")), "not a plain file name"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_a_damaged_manifest_is_told(tmp_path: Path, damage: Callable[[str], str], message: str) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
    path = tmp_path / "manifest.json"
    path.write_text(damage(path.read_text()))
    before = path.read_text()
    for opening in (LabelStore.open, writer):
        with pytest.raises(UserError, match=message) as caught:
            opening(tmp_path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_text() == before


def test_a_manifest_that_is_not_text_is_told(tmp_path: Path) -> None:
    writer(tmp_path).close()
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        LabelStore.open(tmp_path)


def test_a_damaged_or_missing_round_is_told(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
        commit(store, 1)
    path = tmp_path / "round_001.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"round_001\.parquet is damaged"):
        LabelStore.open(tmp_path)
    path.unlink()
    for opening in (LabelStore.open, writer):
        with pytest.raises(UserError, match=r"round_001\.parquet is missing"):
            opening(tmp_path)


def test_rounds_whose_manifest_was_lost_are_not_overwritten(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        commit(store, 0)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"round_001\.parquet exists without manifest\.json"):
        writer(tmp_path)
    with pytest.raises(UserError, match="no label store in"):
        LabelStore.open(tmp_path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        writer(tmp_path / "file" / "store")


def test_more_classes_than_a_byte_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="255 classes"):
        LabelStore.create_or_open(tmp_path, classes=[str(k) for k in range(255)], images=IMAGES)
    writer(tmp_path).close()
