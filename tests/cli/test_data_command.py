"""``ripu-data check`` and ``ripu-data prepare``: what they print, find, leave behind, and refuse."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_mistakes import EARLY, folders
from test_train_command import assert_one_line, call

from ripu_lightning.cli.data import main
from ripu_lightning.data import ActiveDataModule, FolderDataset
from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.prepared import Resized
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.run import refuse_other_config

CLASSES = "data.source.classes=classes.yaml"
SIZES = ["data.source_size=[16,24]", "data.target_size=[20,30]"]
Run = Callable[..., tuple[int, str, str]]


class Closed(FolderDataset):
    """Nothing of it can be read any more."""

    def image(self, index: int) -> np.ndarray:
        raise AssertionError(f"image {index} was opened")

    label = check = image


class Anonymous(FolderDataset):
    """A data set that cannot tell whether it has changed."""

    def fingerprint(self) -> None:
        return None


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process, on the folders of three images a part: exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setenv("RIPU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")
    given = [
        argument for argument in folders(tmp_path) if argument.startswith("data.s") or argument.startswith("data.t")
    ]

    def call_main(word: str, *overrides: str, bare: bool = False) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ripu-data", word, *([] if bare else given), *overrides])
        code = 0
        try:
            main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call_main


def datamodule(kind: type[FolderDataset], **options: object) -> ActiveDataModule:
    parts = [kind(*part, "classes.yaml") for part in (("source", "train"), ("target", "train"), ("target", "val"))]
    return ActiveDataModule(*parts, **options)


def row(printed: str, name: str) -> list[list[str]]:
    lines = [line.split() for line in printed.replace("│", " ").splitlines()]
    return [line[1:] for line in lines if line and line[0] == name]


def test_check_counts_what_is_there(run: Run, tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 48), 255, dtype=np.uint8)).save("source/labels/train/b.png")
    code, out, err = run("check")
    assert code == 0, err
    for part, split in (("source", "train"), ("target", "train"), ("target_eval", "val")):
        assert f"{part}: 3 images, height x width: 32x48 (3)" in out
        assert f"{part}: no faults" in out
        assert f"{part}: reading" in err
        assert (tmp_path / part.split("_")[0] / "labels" / split).is_dir()
    labels = np.stack([np.array(Image.open(path)) for path in sorted(Path("source/labels/train").glob("*.png"))])
    for value, name, images in ((0, "ground", 2), (1, "thing", 2), (255, "(ignored)", 1)):
        assert row(out, name)[0] == [f"{100 * (labels == value).mean():.3f}", str(images)]
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "classes.yaml", "source", "target"}
    datamodule(Closed, cache="cache", source_sampling="class_balanced").check()  # training reads nothing again


def test_check_tells_all_faults_of_all_parts(run: Run, tmp_path: Path) -> None:
    Image.fromarray(np.full((32, 48), 7, dtype=np.uint8)).save("source/labels/train/a.png")
    Path("source/images/train/a.png").write_bytes(b"not a picture")
    Image.fromarray(np.zeros((30, 48), dtype=np.uint8)).save("source/labels/train/c.png")
    Path("target/labels/train/b.png").unlink()
    Path("target/images/train/c.png").unlink()
    code, out, err = run("check")
    assert code == 1
    lines = [line.strip() for line in out.splitlines()]
    for start, word in (
        ("source/images/train/a.png", "cannot be read"),
        ("source/labels/train/c.png", "48x30"),
        ("image without label: target/images/train/b.png", "add it"),
        ("label without image: target/labels/train/c.png", "add it"),
    ):
        assert [word in line for line in lines if line.startswith(start)] == [True]
    assert "source: 2 faults" in lines
    assert "target: 1 images, height x width: 32x48 (1)" in lines  # the pair that is whole
    assert "target: 2 faults" in lines
    assert "target_eval: no faults" in lines
    assert err.splitlines()[-1] == "error: data: 4 fault(s), listed above: fix them and check again"
    assert "left out" not in err  # the orphans are faults here
    assert not DataCache("cache").read(FolderDataset("source", "train", "classes.yaml"), "checked")


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("data.target._target_=foo.Bar", "foo.Bar"),
        ("data.target.orphans=sikp", "data.target.orphans must be 'error' or 'skip', got 'sikp'"),
        ("data.target.orphans=null", "data.target.orphans must be 'error' or 'skip', got None"),
    ],
)
def test_a_data_set_that_can_not_be_made_is_a_fault(run: Run, override: str, word: str) -> None:
    code, out, err = run("check", override)
    assert code == 1
    assert "target: 1 fault" in out
    assert word in out
    assert err.splitlines()[-1].startswith("error: data: 1 fault(s)")


def test_what_an_option_lets_pass_is_told(run: Run) -> None:
    Image.fromarray(np.zeros((40, 48), dtype=np.uint8)).save("source/labels/train/c.png")
    Path("target/labels/train/b.png").unlink()
    code, out, err = run("check", "data.source.mismatch=resize", "data.target.orphans=skip")
    assert code == 0, err
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 2
    assert "labels resized" in notes[0]
    assert notes[0].endswith("1 of 3: c")
    assert "1 files without partner are left out" in notes[1]


def test_images_as_cameras_and_phones_leave_them(run: Run) -> None:
    turned, picture = Image.Exif(), Image.open("source/images/train/a.png").convert("RGB")
    turned[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save("source/images/train/a.png", exif=turned)
    picture.convert("L").save("target/images/train/b.png")
    Path("source/images/train/d.heic").write_bytes(b"of a phone")
    Image.fromarray(np.zeros((40, 48), dtype=np.uint8)).save("target/labels/train/c.png")
    code, out, _ = run("check", "data.target.labels=null")
    assert code == 1
    assert "source: 3 images, height x width: 32x48 (3)" in out
    notes = [line for line in out.splitlines() if line.startswith("note: ")]
    assert "1 of 3 images have an EXIF orientation" in notes[1]
    assert "1 file with the suffix .heic (1) left out" in notes[0]
    assert "b.png: image has 1 channel in mode L; expected 8-bit RGB: set data.target.convert=rgb, or conv" in out
    code, out, _ = run("check", "only=target", "data.target.convert=rgb")
    assert code == 1
    assert "set data.target.mismatch=resize or skip" in out
    assert run("check", "only=target", "data.target.convert=rgb", "data.target.mismatch=skip")[0] == 0
    code, out, _ = run("check", "only=source", "data.source.convert=grey")
    assert "data.source.convert must be None or 'rgb', got 'grey'" in out


def test_many_faults_are_counted(run: Run) -> None:
    for number in range(23):
        for kind in ("images", "labels"):
            Path(f"source/{kind}/train/extra{number:02}.png").write_bytes(b"damaged")
    code, out, _ = run("check", "only=source")
    assert code == 1
    lines = out.splitlines()
    assert lines[-22] == "source: 46 faults"  # an image and a label each
    assert all("extra" in line and "cannot be read" in line for line in lines[-21:-1])
    assert lines[-1] == "  ... and 26 more"


def test_only_one_part_needs_its_values(run: Run) -> None:
    code, out, err = run("check", "only=source", "data.source.root=source", CLASSES, bare=True)
    assert code == 0, err
    assert "target" not in out
    code, out, err = run("check", "only=target_eval", "data.target.root=target", CLASSES, bare=True)
    assert code == 0, err
    assert out.startswith("target_eval: 3 images")
    code, _, err = run("check", "only=target_eval", CLASSES, bare=True)
    assert code == 1
    assert "data.target.root" in err


def test_training_reads_what_was_prepared(run: Run, tmp_path: Path) -> None:
    for path in Path("target/labels").rglob("*.png"):
        path.write_bytes(b"the truth is not for preparing")
    code, out, err = run("prepare", *SIZES)
    assert code == 0, err
    assert out.count("3 of 3 written") == 4
    parts = {"source": (16, 24), "target": (20, 30), "target_eval": (20, 30)}
    plain, closed = datamodule(FolderDataset), datamodule(Closed)
    for part, size in parts.items():
        ours, theirs = (Resized(getattr(data, part), size, DataCache("cache")) for data in (closed, plain))
        fly = Resized(getattr(plain, part), size, DataCache(None))
        for index in range(3):
            np.testing.assert_array_equal(ours.image(index), fly.image(index))
            if part == "source":
                np.testing.assert_array_equal(ours.label(index), fly.label(index))
        assert theirs.size == size
    source, target = (Closed(part, "train", "classes.yaml") for part in ("source", "target"))
    ready = ActiveDataModule(source, target, None, source_sampling="class_balanced", cache="cache")
    ready.check(truth=False)  # training opens no file again but to train on it
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")}
    code, out, _ = run("prepare", *SIZES)
    assert code == 0
    assert out.count("all 3 exist, nothing to do") == 4
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*")} == before


def test_prepare_without_sizes_keeps_the_statistics_alone(run: Run, tmp_path: Path) -> None:
    code, out, err = run("prepare")
    assert code == 0, err
    assert out.count("data.target_size is not set") == 2
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["statistics.npz"]


def test_prepare_names_the_first_fault(run: Run) -> None:
    Path("target/images/train/b.png").write_bytes(b"not a picture")
    code, _, err = run("prepare", "only=target", *SIZES)
    assert code == 1
    assert err.splitlines()[-1].startswith("error: target/images/train/b.png: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([""], ["error: usage: ripu-data check|prepare"]),
        (["chek"], ["'chek'", "did you mean 'check'", "usage: ripu-data check|prepare"]),
        (["data=folder"], ["usage: ripu-data check|prepare"]),
        (["command=sort"], ["command", "check or prepare"]),
        (["check", "only=sorce"], ["only", "did you mean 'source'"]),
        (["check", "data.sorce.root=x"], ["'data.sorce.root'", "data.source.root"]),
        (["prepare", "data.cache=null"], ["data.cache"]),
        (["check", "only=target_eval", "data.target_eval=null"], ["only", "data.target_eval is null"]),
        (["prepare", "data.source_size=16"], ["data.source_size", "[height, width]"]),
        (["prepare", "data.source._target_=test_data_command.Anonymous"], ["data.source", "fingerprint"]),
        (["prepare", "data.source.root=nowhere"], ["nowhere", "wrong root"]),
        (["check", "data.cache=[5]"], ["data.cache must be a folder or None, got"]),
        (["check", "data.target=5"], ["data.target: expected a data set", "got 5"]),
        (["check", "data.target._target_=null"], ["data.target: expected a data set"]),
        (["prepare", "data.target.split=2012_01"], ["target/images/2012_01", "wrong root or split?"]),
    ],
)
def test_mistakes_get_one_line(run: Run, arguments: list[str], words: list[str]) -> None:
    code, _, err = run(*arguments)
    assert code == 1
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert all(word in lines[0] for word in words)


def test_a_run_goes_on_with_another_cache() -> None:
    refuse_other_config({"data": {"cache": "here", "seed": 1}}, {"data": {"cache": None, "seed": 1}}, Path("run"))
    with pytest.raises(UserError, match=r"data\.seed"):
        refuse_other_config({"data": {"cache": "here", "seed": 1}}, {"data": {"cache": None, "seed": 2}}, Path("run"))


def test_help_tells_the_words_and_keys(run: Run) -> None:
    for words in (["--help"], ["check", "--help"]):
        code, out, err = run(*words)
        assert code == 0, err
        assert "usage: ripu-data check|prepare" in out
        assert "only: null" in out


def test_the_process_itself(tmp_path: Path) -> None:
    """A missing value is answered without torch; a check of real folders exits with 0."""
    python = ("python", "-m", "ripu_lightning.cli.data")
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "sitecustomize.py").write_text(EARLY)
    path = ":".join([str(tmp_path / "early"), *sys.path])
    assert_one_line(call(*python, "check", cwd=tmp_path, PYTHONPATH=path), "data.source.root has no value")
    given = [argument for argument in folders(tmp_path) if argument.startswith("data.source.")]
    done = call(*python, "check", "only=source", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "source: 3 images" in done.stdout
