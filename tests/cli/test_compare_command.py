"""``ripu-compare`` picks what training would pick with the same network, on any number of ranks."""

import json
import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from in_process import call_main
from test_train_command import SMALL, call

from ripu_lightning.cli import compare, train
from ripu_lightning.data import Streets, load_class_map
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.maintenance import roll_back
from ripu_lightning.report.replay.comparison_files import ReplayPictures

STILL = ["schedule.first_round=0", "optimizer.lr=1e-30", "batchnorm=frozen", "pictures=0"]
"""Rounds that are all queried with the initial network, the first of them before any step."""
Queried = dict[str, dict[str, np.ndarray]]
Failing = Callable[..., str]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    call_main(
        train.main, *SMALL, "budget=none", "budget.rounds=0", "loss=source_only", "pictures=0", f"output={folder}"
    )
    return folder / "checkpoints" / "last.ckpt"


@pytest.fixture
def picked(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Queried]:
    """Runs the command and gives what each strategy picked of each image."""
    target, seen = Streets("target", "train", 5, 64, 96), Queried()

    def draw(self: ReplayPictures, index: int, predicted: np.ndarray, queried: dict[str, np.ndarray]) -> None:
        for name, mask in queried.items():
            seen.setdefault(name, {})[target.ids[index]] = mask

    def run(*arguments: str) -> Queried:
        seen.clear()
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        start = [f"checkpoint={checkpoint}", f"output={tmp_path / 'out'}", "trainer.accelerator=cpu"]
        call_main(compare.main, *start, *arguments)
        return deepcopy(seen)

    monkeypatch.setattr(ReplayPictures, "draw", draw)
    monkeypatch.chdir(tmp_path)
    return run


PLANS = {
    "each image": (["ripu", "random", "pixelpick"], []),
    "the pool": (["mada", "entropy"], ["budget=images", "budget.images=4", "region_type=image"]),
}


@pytest.mark.parametrize("plan", PLANS)
def test_picks_are_those_of_training(picked: Callable[..., Queried], checkpoint: Path, plan: str) -> None:
    names, options = PLANS[plan]
    options = [*options, "budget.rounds=2"]
    for name in names:
        call_main(train.main, *SMALL, *STILL, *options, f"strategy={name}", f"initial={checkpoint}", f"output={name}")
    asked = {name: store_of(name) for name in names}
    first = picked(f"strategies=[{','.join(names)}]", *options)
    assert list(first) == names
    for name in names:
        for image_id, mask in first[name].items():
            assert np.array_equal(mask, asked[name][image_id] == 1)
        assert any(mask.any() for mask in first[name].values())
        roll_back(f"{name}/labels", 1)
        second = picked(f"strategies={name}", *options, f"labels={name}/labels")[name]
        for image_id, mask in second.items():
            assert np.array_equal(mask, asked[name][image_id] == 2)
        assert json.loads(Path("out/compare.json").read_text())["round"] == 2


def store_of(name: str) -> dict[str, np.ndarray]:
    store = LabelStore.open(f"{name}/labels", images=dict.fromkeys(Streets("target", "train", 5, 64, 96).ids, (64, 96)))
    return {image_id: store.query_round(image_id) for image_id in store.images}


def test_the_scores_of_the_public_code_where_the_run_had_them(picked: Callable[..., Queried], checkpoint: Path) -> None:
    """Inside the logarithms, an epsilon as large as this one changes the order."""
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["config"]["parity"]["eps"] = 0.5
    torch.save(content, "official.ckpt")
    plain, official = picked("strategies=ripu"), picked("strategies=ripu", "checkpoint=official.ckpt")
    assert any(not np.array_equal(mask, official["ripu"][image_id]) for image_id, mask in plain["ripu"].items())


def test_two_processes_find_what_one_finds(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    strategies = "strategies=[ripu,random,core_set]"
    options = ["budget=pixels", "budget.pixels=13000", "budget.per=pool", "+data.eval_batch_size=1", "pictures=2"]
    for ranks in (1, 2):
        start = [f"checkpoint={checkpoint}", f"trainer.devices={ranks}", "trainer.accelerator=cpu", strategies]
        arguments = [*start, *options, f"output={tmp_path / f'on{ranks}'}"]
        if ranks == 1:
            call_main(compare.main, *arguments)
            printed = capsys.readouterr().out
        else:
            done = call(sys.executable, "-m", "ripu_lightning.cli.compare", *arguments, cwd=tmp_path)
            assert done.returncode == 0, done.stderr[-3000:]
            printed = done.stdout
        found[ranks] = json.loads((tmp_path / f"on{ranks}" / "compare.json").read_text())
        for each in found[ranks]["strategies"].values():
            assert all(value > 0 for value in each.pop("seconds").values())
            assert each["pixels"] >= 13000 * 0.9
            assert f"{100 * each['recall']:.2f}" in printed
        assert printed.count("errors caught") == 1
        assert len(list((tmp_path / f"on{ranks}" / "pictures").iterdir())) == 2
    assert found[1] == found[2]
    assert found[1]["pool"]["pixels"] == 5 * 64 * 96


def test_all_are_those_that_the_checkpoint_allows(
    picked: Callable[..., Queried], capsys: pytest.CaptureFixture[str]
) -> None:
    found = picked("strategies=all", "+data.target.length=2")
    printed = capsys.readouterr().out
    assert {"ripu", "entropy", "random", "margin", "d2ada"} <= found.keys()
    for name, reason in {"bald": "dropout", "core_set": "whole images", "ripu_point": "got 32"}.items():
        assert name not in found
        assert any(line.startswith(f"left out: {name} (") and reason in line for line in printed.splitlines())


def test_help_tells_groups_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call_main(compare.main, "--help")
    printed = capsys.readouterr().out
    assert all(words in printed for words in ("usage: ripu-compare", "region_type: image, own", "strategies:"))


@pytest.fixture
def failing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Failing:
    """The one line of a command that fails and leaves nothing."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            call_main(compare.main, f"checkpoint={checkpoint}", "output=out", "trainer.accelerator=cpu", *arguments)
        assert stopped.value.code == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "marker").exists()
        return line

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return run


UNLABELLED = "+data.target={_target_: test_evaluate_command.Unlabelled, domain: target, split: train, length: 2}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["strategies=[ripu,entropi]"], "strategies: no strategy 'entropi'; did you mean 'entropy'"),
        (["strategies=[]"], "strategies: expected a list of strategies"),
        (["strategies=[3]"], "strategies: expected a list of strategies"),
        (["strategies=bald"], "strategy bald samples with dropout"),
        (["strategies=core_set"], "budget.per must be 'pool': strategy core_set queries"),
        (["strategies=ripu_point"], "ripu_point: radius must be 0 to 31 in an image of 64x96"),
        (["strategies=mada", "budget=images", "+data.source=null"], "strategy mada learns from the source, but"),
        (["strategy=ripu"], "'strategy'"),
        (["data.target.length=3"], "+data.target.length=... with a plus"),
        (["budget=none", "budget.rounds=0"], "budget.rounds: 0, but no round would be compared"),
        (["budget=published"], "budget.strategy: "),
        (["budget.ratio=2"], "budget.ratio must be a number > 0 and <= 1"),
        (["labels=nowhere"], "nowhere"),
        (["labels=5"], "labels: expected a folder, got 5"),
        (["checkpoint=nowhere.ckpt"], "nowhere.ckpt"),
        ([UNLABELLED], "data.target: has no labels"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(failing: Failing, arguments: list[str], words: str) -> None:
    assert words in failing(*arguments)


def test_a_budget_that_the_labels_have_spent_is_one_line(failing: Failing) -> None:
    images = dict.fromkeys(Streets("target", "train", 5, 64, 96).ids, (64, 96))
    with LabelStore.create_or_open("labels", classes=load_class_map("streets").names, images=images) as store:
        store.commit([], strategy="ripu", annotator="files", exclusion=2)
    assert "budget.rounds: 1, but labels holds 1 already; give 2 or more" in failing("labels=labels")


def test_a_pool_that_is_labelled_completely_is_one_line(failing: Failing) -> None:
    whole = ["region_type=image", "budget.per=pool", "budget.ratio=1", "budget.rounds=1"]
    call_main(train.main, *SMALL, *STILL, *whole, "strategy=random", "output=whole")
    line = failing("labels=whole/labels", "budget.rounds=2")
    assert line.startswith("error: labels: whole/labels has all pixels of the pool already")


TOUCH = {"_target_": "pathlib.Path.touch", "_args_": [{"_target_": "pathlib.Path", "_args_": ["marker"]}]}
HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "target": (lambda config: config["data"].update(target=TOUCH), "'pathlib.Path.touch' built as part of data"),
    "source": (lambda config: config["data"].update(source=TOUCH), "'pathlib.Path.touch' built as part of data"),
    "parity": (lambda config: config["parity"].update(eps=TOUCH), "no plain values in its config's parity"),
    "reference": (lambda config: config["parity"].update(eps="${oc.env:HOME}"), "holds the interpolation"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_checkpoints_build_nothing_of_others(failing: Failing, checkpoint: Path, kind: str) -> None:
    content = torch.load(checkpoint, weights_only=True)
    change, words = HOSTILE[kind]
    change(content["hyper_parameters"]["config"])
    torch.save(content, "hostile.ckpt")
    more = ["strategies=mada", "budget=images"] if kind == "source" else []
    assert words in failing("checkpoint=hostile.ckpt", *more)
