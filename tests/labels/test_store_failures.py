"""Whatever interrupts a commit, the rounds before it stay, and nobody ever sees half a round."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from store_samples import CLASSES, IMAGES, assert_holds, commit, draw_round, writer

from ripu_lightning.errors import UserError
from ripu_lightning.labels import Answers, LabelStore, round_file
from ripu_lightning.labels import store as store_module


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own, with the sample module at hand."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fail_at(call: int, error: BaseException, real: Callable[..., Any]) -> Callable[..., Any]:
    """``real``, but its ``call``-th call (from 1) raises ``error``."""
    calls = iter(range(1, 1000))

    def function(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            raise error
        return real(*arguments, **options)

    return function


# os.fsync: file, folder, manifest; os.replace: file, manifest; write_table: each image (one row group each).
STEPS = [(os, "fsync", 1), (os, "fsync", 2), (os, "fsync", 3), (os, "replace", 1), (os, "replace", 2)]
STEPS += [(pq.ParquetWriter, "write_table", call) for call in (1, 3)]
STEPS += [(pq.ParquetWriter, "close", 1)]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), KeyboardInterrupt()])
@pytest.mark.parametrize(("owner", "name", "call"), STEPS)
def test_a_failed_step_leaves_the_store_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int, error: BaseException
) -> None:
    monkeypatch.setattr(round_file, "_ROWS", 1)
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
        before = contents(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail_at(call, error, getattr(owner, name)))
            expected = UserError if isinstance(error, OSError) else KeyboardInterrupt
            with pytest.raises(expected) as caught:
                commit(store, 1)
        if isinstance(error, OSError):
            reason = "no space left while writing" if error.errno == errno.ENOSPC else "broken"
            assert reason in str(caught.value)
            assert str(tmp_path) in str(caught.value)
            assert "the labels of rounds 1..1 are safe" in str(caught.value)
        assert contents(tmp_path) == before
        assert_holds(store, made)
        made.append(commit(store, 2))
        assert_holds(store, made)
    assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)


def test_once_the_manifest_is_in_place_the_round_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, 0), draw_round(1)]
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail_at(4, OSError(errno.EIO, "broken"), os.fsync))
            with pytest.raises(UserError, match="broken"):
                commit(store, 1)
        assert_holds(store, made)
        assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)
        made.append(commit(store, 2))
        assert_holds(store, made)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "of the annotator"), KeyboardInterrupt(), KeyError("x")])
def test_what_the_answers_raise_passes_through(tmp_path: Path, error: BaseException) -> None:
    def stream() -> Iterator[Answers]:
        yield draw_round(1)[0]
        raise error

    with writer(tmp_path) as store:
        made = [commit(store, 0)]
        before = contents(tmp_path)
        with pytest.raises(type(error)) as caught:
            store.commit(stream(), strategy="s", annotator="a", exclusion=1)
        assert caught.value is error
        assert contents(tmp_path) == before
        assert_holds(store, made)


KILLED = """
import os, signal, sys
from pathlib import Path
from store_samples import commit, writer
name, call = sys.argv[2], int(sys.argv[3])
store = writer(Path(sys.argv[1]))
commit(store, 0)
real, calls = getattr(os, name), iter(range(1, 100))
def function(*arguments):
    if next(calls) == call:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(os, name, function)
commit(store, 1)
"""


@pytest.mark.parametrize(("name", "call", "rounds"), [("fsync", 1, 1), ("replace", 2, 1), ("fsync", 4, 2)])
def test_a_killed_writer_leaves_whole_rounds_and_no_lock(tmp_path: Path, name: str, call: int, rounds: int) -> None:
    assert run_python(KILLED, str(tmp_path), name, str(call)).returncode == -signal.SIGKILL
    made = [draw_round(seed) for seed in range(rounds)]
    assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)
    with writer(tmp_path) as store:
        assert_holds(store, made)
        made.append(commit(store, 7))
        assert_holds(store, made)
    assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)
    assert not list(tmp_path.glob(".*"))


DISK_FULL = """
import resource, sys
from pathlib import Path
from store_samples import assert_holds, commit, writer
from ripu_lightning.errors import UserError
with writer(Path(sys.argv[1])) as store:
    made = [commit(store, 0)]
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        commit(store, 1)
    except UserError as error:
        print(error)
    assert_holds(store, made)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    made.append(commit(store, 2))
    assert_holds(store, made)
"""


@pytest.mark.parametrize("limit", [100, 2000])
def test_a_full_disk_is_reported_and_survived(tmp_path: Path, limit: int) -> None:
    done = run_python(DISK_FULL, str(tmp_path), str(limit))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.strip() == (
        f"no space left while writing {tmp_path / 'round_002.parquet'}: free some space and start again; "
        "the labels of rounds 1..1 are safe"
    )
    made = [draw_round(0), draw_round(2)]
    assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)


BUSY_WRITER = """
import sys, time
from pathlib import Path
from store_samples import commit, writer
with writer(Path(sys.argv[1])) as store:
    for seed in range(12):
        commit(store, seed)
        time.sleep(0.04)
"""


def test_a_reader_beside_a_writer_sees_whole_rounds(tmp_path: Path) -> None:
    writer(tmp_path).close()
    reader = LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    seen = set()
    with subprocess.Popen([sys.executable, "-c", BUSY_WRITER, str(tmp_path)], env=environment) as process:
        while process.poll() is None:
            reader.refresh()
            seen.add(len(reader.rounds))
            fresh = LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES)
            assert len(fresh.rounds) >= len(reader.rounds)
            for number in range(len(fresh.rounds)):
                for answers in draw_round(number):
                    found = fresh.answers(answers.image_id, number + 1)
                    assert found is not None
                    np.testing.assert_array_equal(found.values, answers.values)
    assert process.returncode == 0
    assert len(seen) > 2
    reader.refresh()
    assert_holds(reader, [draw_round(seed) for seed in range(12)])


def test_a_left_over_round_file_is_ignored_and_replaced(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
        (tmp_path / "round_002.parquet").write_bytes(b"half a round")
        (tmp_path / ".round_002.parquet.tmp").write_bytes(b"less")
        assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)
        made.append(commit(store, 1))
    assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)


def with_boxes(answers: Answers, row: int, column: int) -> Answers:
    boxes = answers.boxes.copy()
    boxes[-1, :2] = row, column
    return replace(answers, boxes=boxes)


def with_centre(answers: Answers, row: int, column: int) -> Answers:
    centres = answers.centres.copy()
    centres[0] = row, column
    return replace(answers, centres=centres)


def with_value(answers: Answers, value: int) -> Answers:
    values = answers.values.copy()
    values[0] = value
    return replace(answers, values=values)


MISFITS: list[tuple[Callable[[Answers], Answers], str]] = [
    (lambda a: replace(a, image_id="town/z"), "town/z: no image"),
    (lambda a: with_boxes(a, 9, 0), "town/a: a box is not inside"),
    (lambda a: with_boxes(a, -1, 0), "town/a: a box is not inside"),
    (lambda a: with_boxes(a, 0, 2**31 - 1), "town/a: a box is not inside"),
    (lambda a: with_centre(a, 0, 14), "town/a: a centre is outside"),
    (lambda a: with_centre(a, -1, 0), "town/a: a centre is outside"),
    (lambda a: with_value(a, 3), "town/a: class index 3, but there are 3 classes"),
    (lambda a: with_value(a, 253), "town/a: class index 253"),
    (lambda a: replace(a, image_id="c"), "c: answered twice"),
]


@pytest.mark.parametrize(("change", "message"), MISFITS)
def test_answers_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[Answers], Answers], message: str
) -> None:
    first, *others = draw_round(1)
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=message):
            store.commit([*others, change(first)], strategy="s", annotator="a", exclusion=1)
        with pytest.raises(ValueError, match="exclusion"):
            store.commit([first], strategy="s", annotator="a", exclusion=-1)
        assert contents(tmp_path) == before
        assert_holds(store, made)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("centres", np.ones((5, 2), dtype=np.int64)),
        ("centres", np.ones((5, 3), dtype=np.int32)),
        ("boxes", np.ones((4, 4), dtype=np.int32)),
        ("boxes", np.zeros((5, 4), dtype=np.int32)),
        ("scores", np.ones(5, dtype=np.float64)),
        ("values", np.ones(3, dtype=np.uint8)),
    ],
)
def test_arrays_of_another_kind_are_refused(name: str, array: Any) -> None:
    with pytest.raises(ValueError, match=f"town/a: .*{name}"):
        replace(draw_round(0)[0], **{name: array})


def test_a_clock_that_jumps_back_changes_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        years = iter((2031, 1999, 2026))

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime(next(cls.years), 1, 1, tzinfo=tz)

    monkeypatch.setattr(store_module, "datetime", Clock)
    with writer(tmp_path) as store:
        made = [commit(store, seed) for seed in range(3)]
    again = LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES)
    assert [entry.time[:4] for entry in again.rounds] == ["2031", "1999", "2026"]
    assert_holds(again, made)
