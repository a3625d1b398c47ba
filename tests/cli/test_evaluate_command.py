"""``ripu-evaluate`` under other protocols, for a test server, and without labels; in this process, to be quick."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from test_train_command import SMALL

from ripu_lightning.cli import evaluate, train
from ripu_lightning.data import Streets

Call = Callable[..., None]


class Unlabelled(Streets):
    """Images alone."""

    has_labels = False

    def label(self, index: int) -> np.ndarray:
        raise AssertionError("the truth was opened")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command's ``main`` in a fresh folder."""

    def run(main: Callable[[], None], *arguments: str) -> None:
        GlobalHydra.instance().clear()
        monkeypatch.setattr(sys, "argv", [main.__module__, *arguments, "trainer.accelerator=cpu"])
        main()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ripu-train", *SMALL, "pictures=0", "evaluation=published", f"output={folder}"])
        train.main()
    return folder / "checkpoints" / "last.ckpt"


def result(folder: str | Path) -> dict:
    return json.loads((Path(folder) / "result.json").read_text())


def test_protocol_of_the_checkpoint_and_of_the_command(
    checkpoint: Path, command: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    command(evaluate.main, f"checkpoint={checkpoint}", "output=same", "predictions=null")
    assert "predictions: mirrored\n" in capsys.readouterr().out
    assert result("same") == result(checkpoint.parents[1])
    assert result("same")["protocol"]["inference"]["mirror"] is True
    assert not Path("same/predictions").exists()

    window = ["evaluation=sliding_window", "evaluation.window=[32,48]"]
    command(evaluate.main, f"checkpoint={checkpoint}", "output=window", "predictions=null", *window)
    assert "predictions: window 32x48 overlap 0.5\n" in capsys.readouterr().out
    assert result("window")["protocol"]["inference"]["window"] == [32, 48]
    assert result("window")["config"] == result("same")["config"]  # the run is the same, the protocol is not
    assert result("window")["pixel_accuracy"] != result("same")["pixel_accuracy"]

    command(evaluate.main, f"checkpoint={checkpoint}", "output=plain", "predictions=null", "+evaluation.mirror=false")
    assert "predictions:" not in capsys.readouterr().out
    assert result("plain")["protocol"]["inference"]["title"] == "plain"


def test_other_data_are_another_protocol(checkpoint: Path, command: Call) -> None:
    change = ["+data.target_size=[32,48]", "+data.target_eval.seed=5"]
    command(evaluate.main, f"checkpoint={checkpoint}", "output=other", "predictions=null", *change)
    protocol = result("other")["protocol"]
    assert protocol["input_size"] == [32, 48]
    assert protocol["data"] == Streets("target", "val", 3, 64, 96, seed=5).fingerprint()
    assert result("other")["config"] == result(checkpoint.parents[1])["config"]


def test_without_labels_there_are_predictions_only(
    checkpoint: Path, command: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    def data(kind: str) -> str:
        arguments = "domain: target, split: test, length: 2, height: 64, width: 96"
        return f"+data.target_eval={{_target_: {kind}, {arguments}}}"

    start, unlabelled = f"checkpoint={checkpoint}", data("test_evaluate_command.Unlabelled")
    command(evaluate.main, start, "output=out", "predictions=label_ids", unlabelled)
    assert "no labels" in capsys.readouterr().out
    files = sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*.*"))
    assert files == ["predictions/target_test_0000.png", "predictions/target_test_0001.png"]
    command(evaluate.main, start, "output=labelled", data("ripu_lightning.data.Streets"))
    for file in files:
        with Image.open(f"out/{file}") as grey, Image.open(f"labelled/{file}") as coloured:
            assert (grey.mode, coloured.mode) == ("L", "P")
            assert np.array_equal(np.array(grey), np.array(coloured))  # the drawn streets' ids are their classes'

    capsys.readouterr()
    with pytest.raises(SystemExit):
        command(evaluate.main, start, "output=none", "predictions=null", unlabelled)
    assert "error: predictions: null, but the data have no labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+data.target_eval=null", "data.target_eval: null"),
        ("predictions=true", "predictions: expected palette, label_ids or null, got True"),
        ("evaluation=publishd", "did you mean 'published'"),
        ("+evaluation.scales=[0]", "evaluation.scales: expected a list of factors above 0"),
        ("+evaluation.mirrors=true", "evaluation"),
    ],
)
def test_mistakes_are_one_line(
    checkpoint: Path, command: Call, capsys: pytest.CaptureFixture[str], override: str, words: str
) -> None:
    with pytest.raises(SystemExit):
        command(evaluate.main, f"checkpoint={checkpoint}", "output=out", override)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert words in lines[0]
    assert not Path("out").exists()
