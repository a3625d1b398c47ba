"""Every command of docs/reproduce.md runs, in its debug variation, on small trees of the published layouts."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hydra
import pytest
import yaml
from omegaconf import OmegaConf
from torch import nn
from torchvision import models
from torchvision.models.resnet import BasicBlock

import forked
import trees
from ripu_lightning.cli import child_process
from ripu_lightning.cli.compose import conf_dir
from ripu_lightning.cli.train import main

PAGE = Path(__file__).parents[2] / "docs" / "reproduce.md"
TABLES = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
GTAV = [found.group(1) for line in TABLES if (found := re.search(r"`ripu-train (experiment=gtav/[^`]*)`", line))]
# Those of SYNTHIA are the ones of GTAV with other data, which tests/test_published_recipe.py compares: a few are run.
SYNTHIA = [f"experiment=synthia/{name}" for name in ("ripu_ra", "ripu_pa", "source_free", "source_only", "supervised")]
# Run with the network that its debug variation names.
FULL = "experiment=gtav/ripu_ra"
CONF = Path(__file__).parents[2] / "conf" / "experiment"


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("datasets")
    size = (72, 144)  # holds the window of 65 pixels that RIPU-PA looks at
    trees.write_gtav(root / "gtav", 4, size=size)
    trees.write_synthia(root / "synthia", 4, size=size)
    trees.write_cityscapes(root / "cityscapes", train=4, val=2, test=0, size=size)
    names = {f"RIPU_{name.upper()}": str(root / name) for name in ("gtav", "synthia", "cityscapes")}
    return {**names, "RIPU_CACHE": str(root / "cache")}


def test_every_experiment_has_its_row() -> None:
    said = {command.split()[0].removeprefix("experiment=") for command in GTAV}
    assert said == {f"gtav/{path.stem}" for path in (CONF / "gtav").glob("*.yaml")} - {"gtav/source_model"}


@pytest.mark.parametrize(
    "network",
    [
        ["network=smp", "network.architecture=fpn", "network.encoder=mobilenet_v2", "network.weights=null"],
        ["network=segformer"],
        ["network=deeplab_v3plus_mobilenet_v3", "network.weights=null", "network.channels=16"],
    ],
    ids=lambda network: network[0],
)
def test_other_networks(
    network: list[str], datasets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in datasets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    overrides = ["experiment=gtav/ripu_ra", *network, "debug=few_steps", "output=run", "trainer.accelerator=cpu"]
    monkeypatch.setattr(sys, "argv", ["ripu-train", *overrides])
    main()
    assert len((tmp_path / "run" / "rounds.csv").read_text().splitlines()) == 1 + 6
    assert 0 < json.loads((tmp_path / "run" / "result.json").read_text())["miou"] < 1


@pytest.mark.parametrize("command", [command for command in GTAV if " " in command])
def test_what_a_row_changes_is_there(command: str, datasets: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in datasets.items():
        monkeypatch.setenv(name, value)
    experiment, *changes = command.split()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        before, after = (hydra.compose("train", [experiment, *more]) for more in ([], changes))
    assert before != after
    assert not OmegaConf.missing_keys(after)


class Narrow(models.ResNet):
    """An eighth of ResNet-18's channels in half of its blocks: a recipe is not about its backbone's size."""

    def __init__(self) -> None:
        super().__init__(BasicBlock, [1, 1, 1, 1])
        self.fc = nn.Linear(64, 1)

    def _make_layer(self, block: type[BasicBlock], planes: int, *arguments: Any, **options: Any) -> nn.Sequential:
        return super()._make_layer(block, planes // 8, *arguments, **options)


@pytest.mark.parametrize("command", [*(command for command in GTAV if " " not in command), *SYNTHIA])
def test_recipe(command: str, datasets: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, and a first step in a forked one, to spare each the seconds that importing torch takes."""
    monkeypatch.setattr(child_process, "subprocess", SimpleNamespace(Popen=forked.Popen))
    source_free = "source_free" in command
    debug = "source_free_recipe" if source_free else "recipe"
    for name, value in datasets.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    overrides = [*command.split(), f"debug={debug}", "output=run", "trainer.accelerator=cpu"]
    if command != FULL and not source_free:  # whose first step is another process
        monkeypatch.setattr(models, "get_model", lambda name, weights: Narrow())
    if re.search("ripu_ra_5|v3plus", command):
        overrides.append("network.channels=32")
    if not re.search("supervised|source_only", command):
        overrides.append("budget.rounds=2")  # of the paper's five, which test_other_networks runs through
    monkeypatch.setattr(sys, "argv", ["ripu-train", *overrides])
    main()
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    rows = (tmp_path / "run" / "rounds.csv").read_text().splitlines()[1:]
    assert len(rows) == config["budget"]["rounds"] + 1
    assert all(int(row.split(",")[3]) > 0 for row in rows[1:])  # each round labelled pixels
    assert (tmp_path / "run" / "pretrain").is_dir() == source_free
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 < result["miou"] < 1
    assert result["protocol"]["inference"]["title"] == "mirrored"
