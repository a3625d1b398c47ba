"""``ripu-train annotator=files``: the same command again and again, with people in between."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_train_command import SMALL

import trees
from ripu_lightning.annotation import GroundTruth
from ripu_lightning.class_map import load_class_map
from ripu_lightning.cli.train import main
from ripu_lightning.data import Streets
from ripu_lightning.labels import LabelStore

COMMAND = ["ripu-train", *SMALL, "budget.rounds=1", "schedule.steps=3", "annotator=files", "output=run", "pictures=1"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return tmp_path


def give(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *command: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr; in this process, to spare the seconds that importing torch takes."""
    monkeypatch.setattr(sys, "argv", list(command))
    code = 0
    try:
        main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, *capsys.readouterr()


def error_of(given: tuple[int, str, str]) -> str:
    lines = [line for line in given[2].splitlines() if line.startswith("error: ")]
    assert (given[0], len(lines)) == (1, 1)
    assert "Traceback" not in given[2]
    return lines[0]


def test_a_run_from_asking_to_its_end(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = Streets("target", "train", 5, 64, 96)
    truth = [target.label(index) for index in range(5)]
    label = Streets.label

    def sealed(self: Streets, index: int) -> np.ndarray:
        assert (self.domain, self.split) != ("target", "train"), "the truth of the target was opened"
        return label(self, index)

    monkeypatch.setattr(Streets, "label", sealed)
    code, printed, _ = give(monkeypatch, capsys, *COMMAND)
    folder = place / "run" / "annotation" / "round_001"
    asked = sorted((folder / "asked").rglob("*.png"))
    assert code == 3
    line = printed.splitlines()[-1]
    assert line.startswith("round 1 waits for answers: ")
    assert f"in {len(asked)} images" in line
    assert str(folder / "answers") in line
    assert "run the same command again" in line
    assert (place / "run" / "checkpoints" / "last.ckpt").is_file()

    code, printed, _ = give(monkeypatch, capsys, *COMMAND)  # too early
    assert (code, printed.splitlines()[-1]) == (3, line)
    (place / "elsewhere").mkdir()
    refused = error_of(give(monkeypatch, capsys, *COMMAND[:-3], "annotator=ground_truth", "output=run"))
    assert "annotator" in refused

    ids = np.array([entry[0] for entry in target.classes.ids] + [255] * 256, dtype=np.uint8)[:256]
    for path in asked:
        image_id = path.relative_to(folder / "asked").with_suffix("").as_posix()
        answer = folder / "answers" / f"{image_id}.png"
        answer.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids[truth[target.ids.index(image_id)]]).save(answer)
    (place / "run" / "annotation").rename(place / "elsewhere" / "answered")  # people may move it
    moved = f"annotator.folder={place / 'elsewhere' / 'answered'}"
    code, printed, complaints = give(monkeypatch, capsys, *COMMAND, moved)
    assert code == 0, complaints
    assert "waits" not in printed
    store = LabelStore.open(place / "run" / "labels")
    assert [entry.annotator for entry in store.rounds] == ["files"]
    for index, image_id in enumerate(target.ids):
        queried = store.query_round(image_id) > 0
        assert queried.any()
        assert np.array_equal(store.mask(image_id), np.where(queried, truth[index], 255))
    with (place / "run" / "rounds.csv").open() as file:
        assert [int(row["pixels"]) for row in csv.DictReader(file)] == [0, store.pixels]


def test_a_target_without_any_label_end_to_end(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No label file of the target exists, neither for training nor for evaluation; the answers are the only ones."""
    truth = trees.write_cityscapes(place / "elsewhere", train=3, val=0, test=0)["train"]
    trees.write_cityscapes(place / "cityscapes", train=3, val=0, test=0, labels=False)
    trees.write_gtav(place / "gtav", 3)
    for name in ("gtav", "cityscapes"):
        monkeypatch.setenv(f"RIPU_{name.upper()}", str(place / name))
    command = [
        "ripu-train", "experiment=gtav/ripu_ra", "debug=recipe", "budget.rounds=2", "schedule.steps=4",
        "data.target.labels=null", "data.target_eval=null", "annotator=files", "output=run", "trainer.accelerator=cpu",
    ]  # fmt: skip
    for round_number in (1, 2):
        code, printed, complaints = give(monkeypatch, capsys, *command)
        assert code == 3, complaints
        assert f"round {round_number} waits for answers" in printed
        folder = place / "run" / "annotation" / f"round_{round_number:03d}"
        for path in (folder / "asked").rglob("*.png"):
            image_id = path.relative_to(folder / "asked").with_suffix("").as_posix()
            answer = folder / "answers" / f"{image_id}.png"
            answer.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(truth[image_id]).save(answer)
    code, _, complaints = give(monkeypatch, capsys, *command)
    assert code == 0, complaints
    store, classes = LabelStore.open(place / "run" / "labels"), load_class_map("cityscapes_19")
    assert (len(store.rounds), store.pixels > 0) == (2, True)
    for image_id, ids in truth.items():
        assert np.array_equal(
            store.mask(image_id), np.where(store.query_round(image_id) > 0, classes.lookup()[ids], 255)
        )
    assert not (place / "cityscapes" / "gtFine").exists()


class Peek(GroundTruth):
    """Says that it reads no truth, and does."""

    reads_truth = False

    def check(self, *arguments: object) -> None:
        """Looks at nothing before."""


def test_who_says_to_read_no_truth_is_given_none(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [*SMALL, "budget.rounds=1", "schedule.steps=3", "output=run", "pictures=0"]
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(sys, "argv", ["ripu-train", *overrides, f"annotator._target_={__name__}.Peek"])
    with pytest.raises(RuntimeError, match="must not be read"):
        main()
    assert LabelStore.open(place / "run" / "labels").rounds == ()


def test_a_target_without_labels_needs_an_annotator(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Streets, "has_labels", False)
    line = error_of(give(monkeypatch, capsys, "ripu-train", *SMALL, "output=run"))
    assert "annotator: ground_truth" in line
    assert "annotator=files" in line
    assert not (place / "run").exists()
