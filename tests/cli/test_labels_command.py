"""``ripu-labels`` as a real process: what it prints, what it returns, and that answers stay whatever is done."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ripu_lightning.class_map import ClassMap
from ripu_lightning.cli.labels import main
from ripu_lightning.labels import Answers, LabelStore

CLASSES, IMAGES = ("road", "car"), {"town/a": (6, 8), "b": (5, 5)}


def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ripu_lightning.cli.labels", *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def give(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; in this process, to spare half a second each."""
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, *capsys.readouterr()


def error_of(given: tuple[int, str, str]) -> str:
    (line,) = given[2].splitlines()
    assert given[0] == 1
    assert line.startswith("error: ")
    return line


def answer(image_id: str, row: int, values: list[int]) -> Answers:
    box = np.array([[row, 0, 1, len(values)]], dtype=np.int32)
    return Answers(image_id, box[:, :2].copy(), box, np.array(values, np.uint8), np.ones(1, np.float32))


def commit(store: LabelStore, row: int, values: list[int], image_id: str = "town/a") -> None:
    store.commit([answer(image_id, row, values)], strategy="ripu", annotator="people", exclusion=0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder whose store has three active rounds and an inactive one."""
    with LabelStore.create_or_open(tmp_path / "run" / "labels", classes=CLASSES, images=IMAGES) as store:
        commit(store, 0, [0, 1, 255, 254])
        commit(store, 1, [1, 1, 1])
        store.roll_back(1)
        commit(store, 1, [0, 0], "b")
        commit(store, 2, [1])
    return tmp_path / "run"


def rows(printed: str) -> list[list[str]]:
    lines = [line.replace("┃", "│") for line in printed.splitlines() if line[:1] in {"│", "┃"}]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


def answers_of(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "labels").glob("round_*.parquet")}


def test_list_as_a_process(run: Path) -> None:
    done = call("list", run)
    assert (done.returncode, done.stderr) == (0, "")
    store = LabelStore.open(run / "labels")
    found = rows(done.stdout)
    assert found[0] == ["round", "images", "queries", "pixels", "void", "id", "when", "strategy", "annotator", "state"]
    about = [[entry.id, entry.time, "ripu", "people"] for entry in (*store.rounds, *store.inactive)]
    assert found[1:6] == [
        ["1", "1", "1", "3", "1", *about[0], "active"],
        ["2", "1", "1", "2", "0", *about[1], "active"],
        ["3", "1", "1", "1", "0", *about[2], "active"],
        ["", "2", "3", "6", "1", "", "", "", "", "all active"],
        ["2", "1", "1", "3", "0", *about[3], "inactive"],
    ]
    assert found[6:] == [
        ["class", "pixels", "%"],
        ["road", "3", "50.00"],
        ["car", "2", "33.33"],
        ["void", "1", "16.67"],
    ]


def test_torch_is_not_loaded() -> None:
    code = "import sys, ripu_lightning.cli.labels; print('torch' in sys.modules, 'pycocotools' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_verify_names_every_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = give(capsys, "verify", run)
    assert code == 0
    assert printed.splitlines()[-1] == "all committed files are intact"
    folder = run / "labels"
    names = ["round_001.parquet", "round_002.parquet", "round_002_2.parquet", "round_003.parquet"]
    assert sorted(answers_of(run)) == names
    whole = (folder / names[1]).read_bytes()
    for place in range(0, len(whole), 97):  # wherever a byte is flipped
        (folder / names[1]).write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        code, printed, _ = give(capsys, "verify", folder)
        assert code == 1
        assert re.search(r"^damaged    round_002\.parquet .* inactive: .*its SHA-256 is not", printed, re.M)
    (folder / names[3]).unlink()
    (folder / "pending_004.parquet").write_bytes(b"")
    (folder / ".round_004.parquet.tmp").write_bytes(b"")
    code, printed, _ = give(capsys, "verify", run)
    states = {line[11:].split("  ")[0]: line[:11].strip() for line in printed.splitlines()[:-1]}
    assert states == {
        "manifest.json": "ok",
        "round_001.parquet": "ok",
        "round_002.parquet": "damaged",
        "round_002_2.parquet": "ok",
        "round_003.parquet": "missing",
        ".round_004.parquet.tmp": "left over",
        "pending_004.parquet": "pending",
    }
    assert (code, printed.splitlines()[-1]) == (1, "2 committed files are damaged or missing")


def test_rollback_back_forth_and_to_nothing(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, store = answers_of(run), LabelStore.open(run / "labels")
    (aside,) = store.inactive
    head = store.rounds[-1]
    code, printed, _ = give(capsys, "rollback", run, 1)
    assert (code, printed) == (
        0, f"active: rounds 1 to 1 ({store.rounds[0].id}), 3 pixels; inactive: 3 rounds\n"
    )  # fmt: skip
    give(capsys, "rollback", run, aside.id)
    assert LabelStore.open(run / "labels").rounds[-1] == aside
    assert "no rounds, 0 pixels; inactive: 4 rounds" in give(capsys, "rollback", run, 0)[1]
    give(capsys, "rollback", run, head.sha256)
    assert LabelStore.open(run / "labels").manifest == store.manifest
    for to, words in (("4", "numbered 0 (none) to 3"), ("-1", "first 6"), ("x", "first 6"), ("abcdef0", "no rounds'")):
        assert words in error_of(give(capsys, "rollback", run, "--", to))
    assert LabelStore.open(run / "labels").manifest == store.manifest
    assert answers_of(run) == before


def test_reject_as_people_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Round 2 holds one answer about b; round 3 was selected after it."""
    before, store = answers_of(run), LabelStore.open(run / "labels")
    first, second, _ = store.rounds
    waiting = run / "labels" / f"pending_004_after_{store.rounds[2].id}.parquet"
    waiting.touch()
    code, printed, _ = give(capsys, "reject", run, "--round", 2, "--image", "b", "--query", 1)
    waiting.unlink()
    assert (code, printed.splitlines()) == (
        0,
        [
            f"rejected: 1 answers about 1 images in round 2 ({second.id})",
            f"active: rounds 1 to 1 ({first.id}), 3 pixels; inactive: 3 rounds",
            "start the run again: it queries them again and keeps the other answers of round 2. Remove its last "
            "checkpoint where that was trained on the rejected answers; the run then trains again on the labels in "
            "this store",
            "round 4, which waited for answers, was selected after these: it will be selected anew, and answers that "
            "are in its folder already are not in the label store",
        ],
    )
    assert [row[-1] for row in rows(give(capsys, "list", run)[1])[3:6]] == [
        "inactive", "inactive, answers rejected", "inactive"
    ]  # fmt: skip
    (pending,) = (run / "labels").glob("pending_*")
    assert pending.name == f"pending_002_after_{first.id}.parquet"
    assert give(capsys, "verify", run)[0] == 0
    for to in (second.id, store.rounds[2].id):
        line = error_of(give(capsys, "rollback", run, to))
        assert f"round 2 ({second.id}): answers of it were rejected, so that it cannot be active again" in line
    code, printed, _ = give(capsys, "reject", run, "--round", store.inactive[0].id)
    assert (code, len(printed.splitlines())) == (0, 2)  # it was inactive: nothing changes for the run
    assert LabelStore.open(run / "labels").rounds == (first,)
    assert answers_of(run) == before


def test_reject_what_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = (run / "labels" / "manifest.json").read_bytes()
    for arguments, words in (
        (["--round", 7], "numbered 0 (none) to 3"),
        (["--round", 0], "numbered from 1"),
        (["--round", "abcdef0"], "no rounds' ids begin so"),
        (["--round", 2, "--image", "town/a"], "has no answers about 'town/a'; it has b"),
        (["--round", 2, "--image", "b", "--query", 2], "has no query 2 of 'b'; it has 1 at row 1, column 0"),
        (["--round", 2, "--image", "b", "--query", 0], "has no query 0 of 'b'"),
        (["--round", 2, "--query", 1], "numbers the queries of one image, but 0 are given; add --image ID"),
    ):
        assert words in error_of(give(capsys, "reject", run, *arguments))
    with LabelStore.create_or_open(run / "labels", classes=CLASSES, images=IMAGES):
        assert "is being written" in error_of(give(capsys, "reject", run, "--round", 1))
    assert (run / "labels" / "manifest.json").read_bytes() == manifest
    assert not list((run / "labels").glob("pending_*"))


def test_skip(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = give(capsys, "skip", run, "b")
    assert (code, printed.split(";")[0]) == (0, "skipped for good: b")
    assert "1 of 2 images" in printed
    assert give(capsys, "list", run)[1].splitlines()[-1] == "never queried again: b"
    assert "no image 'town/b'; did you mean 'town/a'?" in error_of(give(capsys, "skip", run, "town/b"))


def test_rollback_past_damage(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "labels" / "round_003.parquet").unlink()
    code, printed, _ = give(capsys, "rollback", run, 3)
    assert (code, len(printed.splitlines())) == (0, 2)
    assert "left out: " in printed
    assert "round_003.parquet is missing: restore it from a backup, or continue without it: ripu-labels roll" in printed
    assert give(capsys, "rollback", run, 2)[0] == 0
    assert len(LabelStore.open(run / "labels").rounds) == 2


def test_rollback_while_a_run_writes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LabelStore.create_or_open(run / "labels", classes=CLASSES, images=IMAGES):
        assert f"is being written by process {os.getpid()}" in error_of(give(capsys, "rollback", run, 0))
        assert give(capsys, "list", run)[0] == 0
    assert len(LabelStore.open(run / "labels").rounds) == 3


def test_export_with_a_damaged_round(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = LabelStore.open(run / "labels")
    assert give(capsys, "export", run, tmp_path / "whole", "--format", "coco")[0] == 0
    assert [path.name for path in (tmp_path / "whole").iterdir()] == ["annotations.json"]
    (run / "labels" / "round_003.parquet").write_bytes(b"PAR1")
    assert give(capsys, "export", run, tmp_path / "two", "--format", "png", "--through", 2)[0] == 0
    code, printed, _ = give(capsys, "export", run, tmp_path / "png", "--format", "png")
    assert code == 1
    assert "2 images written" in printed
    assert "left out: " in printed
    assert "round_003.parquet is damaged" in printed
    for folder in ("two", "png"):
        for image_id in IMAGES:
            with Image.open(tmp_path / folder / f"{image_id}.png") as picture:
                labels, queried = store.mask(image_id, 2), store.query_round(image_id, 2) > 0
                assert np.array_equal(np.asarray(picture), np.where(queried, labels, 254))
    assert "an active round, 1 to 3, got 4" in error_of(
        give(capsys, "export", run, tmp_path / "no", "--format", "png", "--through", 4)
    )
    assert "not empty" in error_of(give(capsys, "export", run, tmp_path / "png", "--format", "coco"))
    assert not (tmp_path / "no").exists()


def test_export_says_what_the_numbers_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = ClassMap(CLASSES, ids=((7,), (1000,)), ignore=(3,))
    with LabelStore.create_or_open(tmp_path / "labels", classes=classes, images=IMAGES) as store:
        commit(store, 0, [0, 1, 255, 254])
    about = {
        (): "file ids of the class map in 16 bits (label_bits: 16), 3 for void and 255 for unlabelled pixels",
        ("--values", "index"): "class indices, 255 for void and unlabelled pixels: readers of labels refuse them",
    }
    first_row = {(): [7, 1000, 3] + [255] * 5, ("--values", "index"): [0, 1] + [255] * 6}
    for number, (options, words) in enumerate(about.items()):
        folder = tmp_path / str(number)
        code, printed, _ = give(capsys, "export", tmp_path, folder, "--format", "png", *options)
        assert (code, printed) == (0, f"1 images written to {folder}: {words}\n")
        with Image.open(folder / "town" / "a.png") as picture:
            assert np.asarray(picture)[0].tolist() == first_row[options]
    refused = error_of(give(capsys, "export", tmp_path, tmp_path / "2", "--format", "coco", "--values", "id"))
    assert "--values: a COCO file holds category ids" in refused


def run_of_images(folder: Path, **target: object) -> None:
    """A run's folder whose config names a data set with the images of the store."""
    for image_id in IMAGES:
        path = folder / "data" / "pictures" / "train" / f"{image_id}.v2.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened")
    described = {
        "_target_": "ripu_lightning.data.FolderDataset",
        "root": str(folder / "data"),
        "split": "train",
        "images": "pictures/{split}/{id}.v2.*",
        **target,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"target": described}}))


def test_coco_follows_the_variable_of_the_root(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of_images(run)
    (run / "data").rename(tmp_path / "moved")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["root_variables"] = {"data.target.root": "$RIPU_MOVED/moved"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("RIPU_MOVED", str(tmp_path))
    said = give(capsys, "export", run, tmp_path / "coco", "--format", "coco")[1]
    assert f"file_name is below {tmp_path / 'moved' / 'pictures' / 'train'}" in said


def test_coco_names_the_files_of_the_images(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def export(number: int, code: int = 0) -> tuple[str, list[str]]:
        folder = tmp_path / f"coco_{number}"
        given = give(capsys, "export", run, folder, "--format", "coco")
        assert (given[0], len(given[1].splitlines())) == (code, 1)
        content = json.loads((folder / "annotations.json").read_text())
        assert [category["id"] for category in content["categories"]] == [1, 2]
        return given[1], [image["file_name"] for image in content["images"]]

    without = "file_name is the image's id, without suffix, for "
    said, names = export(0)
    assert f"{without}there is no {run / 'config.yaml'} of a run" in said
    assert names == ["town/a", "b"]
    run_of_images(run)
    said, names = export(1)
    assert f"file_name is below {run / 'data' / 'pictures' / 'train'}" in said
    assert names == ["town/a.v2.JPG", "b.v2.JPG"]
    run_of_images(run, images="*/train/{id}.v2.*", split=None)
    assert export(2)[1] == ["town/a", "b"]  # whose ids would begin with pictures/
    changes = [
        ({"images": "*/train/{id}.v2.*", "split": None}, "there is no image 'town/a' in "),
        ({"root": str(run / "gone")}, "the images were not found (no folder "),
        ({"_target_": "ripu_lightning.data.Streets"}, "is no folder of images"),
        ({"images": 5}, "describes no data set in data.target"),
    ]
    for number, (target, words) in enumerate(changes, start=3):
        run_of_images(run, **target)
        said, names = export(number)
        assert without in said
        assert words in said
        assert names == ["town/a", "b"]


def test_merge_with_conflicts_and_damage(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LabelStore.create_or_open(tmp_path / "other", classes=CLASSES, images=IMAGES) as other:
        commit(other, 0, [1, 1, 1])
    code, printed, _ = give(capsys, "merge", run, tmp_path / "other", "--into", tmp_path / "merged")
    assert (code, printed.splitlines()) == (
        0,
        [
            f"4 rounds, 9 pixels in {tmp_path / 'merged'}",
            "2 pixels are answered differently by two of the stores; the later round counts",
        ],
    )
    assert LabelStore.open(tmp_path / "merged").mask("town/a")[0].tolist() == [1, 1, 1, *[255] * 5]
    assert "not empty" in error_of(give(capsys, "merge", run, "--into", tmp_path / "other"))
    (run / "labels" / "round_001.parquet").unlink()
    code, printed, _ = give(capsys, "merge", run, "--into", tmp_path / "rest")
    assert (code, "round_001.parquet is missing" in printed) == (1, True)
    assert [entry.number for entry in LabelStore.open(tmp_path / "rest").rounds] == [1, 2]


def test_mistakes_are_one_line(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["list"], ["verify"], ["rollback", 0]):
        line = error_of(give(capsys, command[0], tmp_path, *command[1:]))
        assert f"no label store in {tmp_path}" in line
    assert list(tmp_path.iterdir()) == [run]
    (tmp_path / "file").write_text("x")
    assert "no label store" in error_of(give(capsys, "list", tmp_path / "file"))
    export = ["export", run, tmp_path / "file" / "png", "--format", "png"]
    assert "cannot write" in error_of(give(capsys, *export))
    assert "file exists and is not empty" in error_of(give(capsys, *[*export[:2], tmp_path / "file", *export[3:]]))
    (run / "labels" / "manifest.json").write_text("{")
    for command in (["list"], ["verify"], ["rollback", 0]):
        line = error_of(give(capsys, command[0], run, *command[1:]))
        assert "manifest.json is damaged" in line


def test_without_the_extra(run: Path, tmp_path: Path) -> None:
    (tmp_path / "bare" / "pycocotools").mkdir(parents=True)
    (tmp_path / "bare" / "pycocotools" / "__init__.py").write_text("raise ModuleNotFoundError('pycocotools')")
    path = os.pathsep.join([str(tmp_path / "bare"), *sys.path])
    done = call("export", run, tmp_path / "out", "--format", "coco", PYTHONPATH=path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: --format coco: package pycocotools is not installed; run pip install 'ripu-lightning[coco]'\n"
    )
    assert not (tmp_path / "out").exists()


def test_text_that_steers_a_terminal_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LabelStore.create_or_open(tmp_path, classes=("\u202eroad", "[red]car[/red]"), images=IMAGES) as store:
        store.commit([answer("b", 0, [0])], strategy="\x1b]0;x\x07", annotator="a\nb", exclusion=0)
    code, printed, _ = give(capsys, "list", tmp_path)
    assert code == 0
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert r"\u202eroad" in printed
    assert "[red]car[/red]" in printed
    assert r"a\nb" in printed


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background leaves ignored
from ripu_lightning.cli import labels_commands
from ripu_lightning.class_map import ClassMap
from ripu_lightning.cli.labels import main
def wait(*_):
    print("here", flush=True)
    time.sleep(60)
labels_commands.merge_stores = wait
main(["merge", sys.argv[1], "--into", sys.argv[2]])
"""


def test_ctrl_c_is_one_line(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(run), str(tmp_path / "merged")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints == "error: interrupted; the label stores are unchanged\n"
