"""A mistake on the command line: one line with the key or file and the fix, and nothing is written."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from in_process import call_inside
from PIL import Image
from test_train_command import SCRIPTS, SMALL, assert_one_line, call

from ripu_lightning.cli.compose import compose
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.version import __version__

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))
sys.argv = sys.argv[1:]
from ripu_lightning.cli.train import main
main()
"""
EARLY = "import sys\nsys.modules['torch'] = sys.modules['pytorch_lightning'] = None\n"


@pytest.mark.parametrize("command", ["ripu-train", "ripu-evaluate"])
def test_help_tells_the_groups_and_keys(command: str, tmp_path: Path) -> None:
    done = call(command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"usage: {command}" in done.stdout
    assert "trainer:" in done.stdout
    if command == "ripu-train":
        assert "strategy: bald, core_set, d2ada, entropy" in done.stdout
        assert "region_type: image, own, pixel, square, superpixel" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("bugdet.ratio=0.1", ["'bugdet.ratio'", "did you mean 'budget.ratio'"]),
        ("strategy.radios=2", ["'strategy.radios'", "'strategy.radius'"]),
        ("stratgy=ripu", ["'stratgy'", "'strategy'"]),
        ("strategy=entropi", ["strategy", "'entropi'", "did you mean 'entropy'"]),
        ("strategy=null", ["strategy: a group cannot be null"]),
        ("experiment=demoo", ["experiment", "did you mean 'demo'"]),
        ("data=folder", ["data.source.root", "has no value"]),
        ("budget.ratio=[0.1", ["budget.ratio=[0.1: a ] is missing"]),
        ("seed=1,2,3", ["for a sweep add -m"]),
        ("demo", ["expected key=value or group=option; did you mean experiment=demo?"]),
    ],
)
def test_misspelt_keys_are_answered_with_the_fix(override: str, words: list[str], tmp_path: Path) -> None:
    done = call("ripu-train", override, cwd=tmp_path)
    assert_one_line(done, *words)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["budget.ratio=0"], ["budget.ratio must be a number > 0"]),
        (["budget.ratio=-0.1"], ["budget.ratio"]),
        (["budget.ratio=1.5"], ["budget.ratio"]),
        (["budget.ratio=many"], ["budget"]),
        (["budget=clicks", "budget.clicks=0"], ["budget.clicks"]),
        (["budget=clicks", "budget.clicks=1000000"], ["budget"]),
        (["strategy.radius=40"], ["strategy.radius", "64x96"]),
        (["strategy=ripu_point", "strategy.radius=40"], ["strategy.radius", "64x96", "got 40"]),
        (["budget.rounds=9"], ["budget.rounds", "interval"]),
        (["strategy.name=ripuu"], ["strategy", "did you mean 'ripu'"]),
        (["budget.split=sometimes"], ["budget.split", "'even', 'geometric'"]),
        (["budget.split=[1,2,3]"], ["budget.split", "weights"]),
        (["budget.per=town"], ["budget.per", "'image' or 'pool'"]),
        (["region_type=image"], ["budget.per", "whole images"]),
        (["budget=images"], ["budget.images", "region type image"]),
        (["region_type=superpixel", "region_type.folder=nowhere"], ["region_type.folder", "nowhere"]),
        (
            ["region_type=square", "region_type.radius=2", "region_type.exclusion=3"],
            ["region_type.exclusion", "overlap"],
        ),
        (["strategy=d2ada", "region_type=pixel"], ["error: region_type must be superpixels"]),
        (["strategy=d2ada", "selection_rule=greedy"], ["error: selection_rule must be left out", "d2ada"]),
        (["strategy=mada", "strategy.anchors=0", "budget=images"], ["strategy.anchors"]),
        (["strategy=bald"], ["strategy bald", "no dropout layer"]),
        (["strategy=registered"], ["strategy.name", "has no value"]),
        (["selection_rule=top_random", "selection_rule.share=2"], ["selection_rule.share"]),
        (["trainer.precision=12"], ["trainer"]),
        (["loss.weights.source_ce=-1"], ["loss.weights.source_ce"]),
        (["schedule.horizon=3"], ["schedule.horizon"]),
        (["+trainer.limit_val_batches=1"], ["trainer.limit_val_batches", "complete split"]),
        (["+trainer.check_val_every_n_epoch=2"], ["trainer.check_val_every_n_epoch"]),
        (["initial=1e3"], ["initial: no file 1e3; check the path"]),
        (["seed=4294967296"], ["seed must be at most 4294967295, got 4294967296"]),
        (["per_class=maybe"], ["per_class: expected true or false, got 'maybe'"]),
        (["optimizer.lr=fast"], ["optimizer.lr: expected a number, such as 0.1, got 'fast'"]),
        (["data.target=null", "data.source=null"], ["data.target"]),
        (["data.source=x"], ["data.source: expected a data set", "got x"]),
    ],
)
def test_values_that_cannot_be(overrides: list[str], words: list[str], tmp_path: Path) -> None:
    assert_one_line(call_inside("ripu-train", *SMALL, *overrides, "output=run", cwd=tmp_path), *words)
    assert not (tmp_path / "run" / "labels").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_target_without_val_says_how_to_do_without(tmp_path: Path) -> None:
    arguments = folders(tmp_path)
    shutil.rmtree(tmp_path / "target" / "images" / "val")
    done = call_inside("ripu-train", *arguments, cwd=tmp_path)
    assert_one_line(done, "target/images/val", "data.target_eval.split=...", "data.target_eval=null")


def test_without_arguments_nothing_is_started(tmp_path: Path) -> None:
    done = call_inside("ripu-train", cwd=tmp_path)
    assert done.returncode == 0
    assert "nothing was started" in done.stdout
    assert "ripu-train experiment=demo" in done.stdout
    assert "2.2%" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train", "evaluate", "compare", "convert", "data", "labels", "report"])
def test_each_command_tells_its_version(name: str, tmp_path: Path) -> None:
    done = call_inside(f"ripu-{name}", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"ripu-{name} {__version__}\n")


@pytest.mark.parametrize(
    ("given", "folder"), [("2024_11_29", "2024_11_29"), ("null", "null"), ("~", "~"), ("1e3", "1e3")]
)
def test_text_is_what_was_typed(given: str, folder: str, tmp_path: Path) -> None:
    """The run stops at its budget; by then it has written nothing, and its lock names the folder."""
    done = call_inside("ripu-train", "--cfg", "job", "-p", "output", f"name={given}", f"output={given}", cwd=tmp_path)
    assert done.stdout.strip() == folder
    assert compose([f"name={given}"]).output.startswith(f"runs/{folder}/")


def test_what_a_line_says_to_write_is_read_by_a_shell(tmp_path: Path) -> None:
    """The quoted form that an error shows, in a shell, is the folder that was meant."""
    for folder in ("runs/lr=0.1", "runs/é, [1] (it's)"):
        with pytest.raises(UserError) as error:
            compose([f"output={folder}"])
        form = re.search(r"'output=.*'", str(error.value))
        assert form is not None
        shell = f"{SCRIPTS / 'ripu-train'} --cfg job -p output {form[0]}"
        done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert yaml.safe_load(done.stdout) == folder, done.stderr


def folders(root: Path) -> list[str]:
    generator = np.random.default_rng(0)
    for domain, split in (("source", "train"), ("target", "train"), ("target", "val")):
        for kind in ("images", "labels"):
            (root / domain / kind / split).mkdir(parents=True)
        for name in "abc":
            label = generator.integers(0, 2, (32, 48)).astype(np.uint8)
            Image.fromarray(label).save(root / domain / "labels" / split / f"{name}.png")
            picture = (label[..., None] * 120 + generator.integers(0, 100, (32, 48, 3))).astype(np.uint8)
            Image.fromarray(picture).save(root / domain / "images" / split / f"{name}.png")
    (root / "classes.yaml").write_text(
        "classes: [{name: ground, color: [1, 2, 3]}, {name: thing, color: [200, 20, 3]}]\nignore: [255]\n"
    )
    return [
        "data=folder", "data.source.root=source", "data.target.root=target", "data.source.classes=classes.yaml",
        "debug=quick", "budget.rounds=2", "network.width=4", "data.num_workers=0", "trainer.accelerator=cpu",
        "output=run",
    ]  # fmt: skip


def test_folders_and_a_yaml_are_enough(tmp_path: Path) -> None:
    done = call_inside("ripu-train", *folders(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "curve.png").is_file()


def test_a_fault_in_the_data_is_found_before_training(tmp_path: Path) -> None:
    arguments = folders(tmp_path)
    bad = tmp_path / "target" / "labels" / "val" / "c.png"
    Image.fromarray(np.full((32, 48), 7, dtype=np.uint8)).save(bad)
    done = call_inside("ripu-train", *arguments, cwd=tmp_path)
    assert_one_line(done, "target/labels/val/c.png", "1536 pixels", "7", "classes.yaml")
    assert not (tmp_path / "run" / "labels").exists()


def test_missing_data_is_reported_with_the_place(tmp_path: Path) -> None:
    done = call_inside(
        "ripu-train", "experiment=roads", "network=small", cwd=tmp_path, RIPU_DATA=str(tmp_path / "nowhere")
    )
    assert_one_line(done, str(tmp_path / "nowhere" / "source"), "wrong root")


def test_config_errors_never_load_torch(tmp_path: Path) -> None:
    """Proof rather than timing: with torch out of reach the answers are the same."""
    (tmp_path / "sitecustomize.py").write_text(EARLY)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = call("ripu-train", "bugdet.ratio=0.1", cwd=tmp_path, anew=True, PYTHONPATH=path)
    assert_one_line(done, "did you mean 'budget.ratio'")
    assert call("ripu-train", "--help", cwd=tmp_path, anew=True, PYTHONPATH=path).returncode == 0
    done = call("ripu-train", *folders(tmp_path), "data.target.root=nowhere", cwd=tmp_path, anew=True, PYTHONPATH=path)
    assert_one_line(done, "no folder nowhere/images/train: wrong root or split?")
    done = call("ripu-evaluate", "checkpoint=nowhere.ckpt", cwd=tmp_path, anew=True, PYTHONPATH=path)
    assert_one_line(done, "checkpoint: no file nowhere.ckpt; check the path")
    done = call(
        "ripu-data", "check", *folders(tmp_path / "data")[:4], cwd=tmp_path / "data", anew=True, PYTHONPATH=path
    )
    assert done.returncode == 0, done.stderr
    assert "target_eval: no faults" in done.stdout


def test_disk_full_while_a_round_is_written(tmp_path: Path) -> None:
    """The system refuses files above 6,000 bytes, less than the round needs and more than the files before it."""
    # A first stage of one step has no checkpoint before its round.
    command = ["ripu-train", *SMALL, "schedule.first_round=1", "region_type=pixel", "budget.ratio=0.4"]
    command += ["data.target.length=20", "output=run"]
    done = call("python", "-c", LIMITED, *command, cwd=tmp_path)
    assert_one_line(done, "run/labels/round_001.parquet", "free some space")
    assert LabelStore.open(tmp_path / "run" / "labels").rounds == ()
    assert not list((tmp_path / "run" / "labels").glob("*.parquet"))
    assert call_inside(*command, cwd=tmp_path).returncode == 0  # with space again, the same command goes through
    assert len(LabelStore.open(tmp_path / "run" / "labels").rounds) == 2
