"""``ripu-train annotator=files``: the same command again and again, with people in between."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_train_command import SMALL

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
    assert "give the same command again" in line
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
        bought = store.asked(image_id) > 0
        assert bought.any()
        assert np.array_equal(store.mask(image_id), np.where(bought, truth[index], 255))
    with (place / "run" / "rounds.csv").open() as file:
        assert [int(row["pixels"]) for row in csv.DictReader(file)] == [0, store.pixels]


def test_a_target_without_labels_needs_an_annotator(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Streets, "has_labels", False)
    line = error_of(give(monkeypatch, capsys, "ripu-train", *SMALL, "output=run"))
    assert "annotator: ground_truth" in line
    assert "annotator=files" in line
    assert not (place / "run").exists()
