"""``ripu-evaluate`` under other protocols and on many ranks, for a test server, and without labels."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from in_process import call_inside, call_main
from PIL import Image
from test_train_command import SMALL, call

import trees
from ripu_lightning.cli import evaluate, train
from ripu_lightning.data import Streets, load_class_map

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
        call_main(main, *arguments, "trainer.accelerator=cpu")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run in another precision than the default, and with more than the plain pass in its evaluation."""
    folder = tmp_path_factory.mktemp("run")
    options = ["pictures=0", "evaluation=published", "trainer.precision=bf16-mixed", f"output={folder}"]
    call_main(train.main, *SMALL, *options)
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
    assert result("same")["protocol"]["precision"] == "bf16-mixed"
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


def test_any_number_of_ranks_gives_the_same_files(checkpoint: Path, tmp_path: Path) -> None:
    """Three images over one rank and over four: none twice, none left out, and one of the four has none."""
    start = ["ripu-evaluate", f"checkpoint={checkpoint}", "evaluation=multi_scale", "trainer.accelerator=cpu"]
    start.append("+data.eval_batch_size=1")  # in 16 bits, another batch may round otherwise
    files = {}
    for ranks in (1, 4):
        launch = call_inside if ranks == 1 else call
        done = launch(*start, f"trainer.devices={ranks}", f"output=on{ranks}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        folder = tmp_path / f"on{ranks}"
        files[ranks] = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(files[1]) == 1 + 3
    assert files[1] == files[4]


def test_subsets_and_the_test_servers_format(
    command: Call, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """SYNTHIA to Cityscapes: 16 classes and 13 of them; predictions of the test split in Cityscapes' own ids."""
    trees.write_synthia(Path("synthia"), 3)
    trees.write_cityscapes(Path("cityscapes"), train=3, val=2, test=3, size=(80, 112))
    for name in ("synthia", "cityscapes"):
        monkeypatch.setenv(f"RIPU_{name.upper()}", str(Path(name).resolve()))
    command(train.main, "experiment=synthia/source_only", "debug=recipe", "output=run", "trainer.accelerator=cpu")
    assert "predictions: mirrored\n" in capsys.readouterr().out
    found, names = result("run"), load_class_map("synthia_16").names
    thirteen = [found["iou"][name] for name in names if name not in {"wall", "fence", "pole"}]
    for mean, values in ((found["miou"], found["iou"].values()), (found["subsets"]["13"], thirteen)):
        assert mean == pytest.approx(np.mean([value for value in values if value is not None]))

    start = "checkpoint=run/checkpoints/last.ckpt"
    command(evaluate.main, start, "output=val", "predictions=null")
    printed = capsys.readouterr().out
    assert result("val") == found
    means = {
        line.replace("│", " ").rsplit(maxsplit=1)[0].strip(): line for line in printed.splitlines() if "mean" in line
    }
    for name, value in (("mean", found["miou"]), ("mean of 13", found["subsets"]["13"])):
        assert f"{100 * value:.1f}" in means[name]

    split = ["+data.target_eval.split=test", "+data.target_eval.labels=null"]
    command(evaluate.main, start, "output=server", "predictions=label_ids", *split)
    command(evaluate.main, start, "output=seen", *split)
    folder, known = Path("server/predictions"), np.array([ids[0] for ids in load_class_map("cityscapes_16").ids])
    assert {path.name for path in folder.iterdir()} == {f"berlin_{number:06d}_000019.png" for number in range(3)}
    for path in folder.iterdir():
        with Image.open(path) as picture, Image.open(f"seen/predictions/berlin/{path.name}") as classes:
            assert (picture.mode, picture.size) == ("L", (112, 80))
            assert np.array_equal(np.array(picture), known[np.array(classes)])


def test_checkpoints_of_something_else_are_one_line(
    checkpoint: Path, command: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    known = content["hyper_parameters"]
    for name, other in {
        "tensor": torch.ones(3),
        "foreign": {"model": {"weight": torch.ones(3)}},
        "no_classes": {**content, "hyper_parameters": {"config": known["config"]}},
        "no_data": {**content, "hyper_parameters": {**known, "config": {"network": {}}}},
    }.items():
        torch.save(other, f"{name}.ckpt")
    whole = checkpoint.read_bytes()
    Path("half.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("text.ckpt").write_text("not a checkpoint")
    with zipfile.ZipFile("zip.ckpt", "w") as archive:
        archive.writestr("a.txt", "b")
    for name in ("tensor", "foreign", "no_classes", "no_data", "half", "text", "zip", "missing"):
        with pytest.raises(SystemExit):
            command(evaluate.main, f"checkpoint={name}.ckpt", "output=out")
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert lines[0].startswith("error: checkpoint: ")
        assert f" {name}.ckpt" in lines[0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("+data.target_eval=null", "data.target_eval: null"),
        ("predictions=true", "predictions must be 'palette' or 'label_ids', got True"),
        ("evaluation=publishd", "did you mean 'published'"),
        ("+evaluation.scales=[0]", "evaluation.scales must be a list of factors above 0 and up to 16, got [0]"),
        ("+evaluation.mirrors=true", "evaluation"),
        ("evaluation.mirror=true", "+evaluation.mirror=... with a plus in front"),
        ("data.target_eval.length=2", "+data.target_eval.length=... with a plus in front"),
        ("checkpoint=null", "checkpoint: no file null"),
        ("+trainer.limit_test_batches=1", "trainer.limit_test_batches: leave it out"),
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
