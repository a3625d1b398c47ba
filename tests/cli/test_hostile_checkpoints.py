"""Checkpoints and run folders from other people: nothing in them is executed, imported or resolved."""

import pickle
import re
import shutil
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from in_process import call_main
from test_train_command import SMALL

from ripu_lightning.cli import convert, evaluate, train

Failing = Callable[..., str]


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Failing:
    """Runs a command that ends with the one line it returns; nothing hostile has left a marker then."""

    def run(main: Callable[[], None], *arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            call_main(main, *arguments)
        assert stopped.value.code == 1
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert not (tmp_path / "marker").exists()
        return line

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run."""
    folder = tmp_path_factory.mktemp("run")
    call_main(train.main, *SMALL, "pictures=0", f"output={folder}")
    return folder


@pytest.fixture
def content(whole: Path) -> dict[str, Any]:
    return torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)


class Marker:
    """Unpickled by anybody who executes pickles, this leaves a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("marker"),))


def test_the_marker_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Marker()))
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_are_not_executed(failing: Failing, whole: Path, content: dict[str, Any], legacy: bool) -> None:
    hostile = {**content, "optimizer_states": [Marker()]}
    torch.save(hostile, "hostile.ckpt", _use_new_zipfile_serialization=not legacy)
    shutil.copytree(whole, "run")
    shutil.copy("hostile.ckpt", "run/checkpoints/last.ckpt")
    for main, arguments in (
        (evaluate.main, ["checkpoint=hostile.ckpt", "output=out"]),
        (convert.main, ["checkpoint=hostile.ckpt", "to=out"]),
        (train.main, [*SMALL, "initial=hostile.ckpt", "output=out"]),
        (train.main, [*SMALL, "pictures=0", "output=run"]),
        (train.main, ["network=deeplab_v2", "network.backbone=resnet18", "network.weights=hostile.ckpt", "output=out"]),
    ):
        line = failing(main, *arguments)
        assert re.search(r"cannot read \S*(hostile|last)\.ckpt \(\w+\); it is damaged, or holds more than", line)


def put(content: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """A copy with another value at ``a.b.c`` of the config."""
    changed = deepcopy(content)
    part = changed["hyper_parameters"]["config"]
    *path, last = key.split(".")
    for name in path:
        part = part[name]
    part[last] = value
    return changed


TOUCH = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": ["marker"]}}
OURS = "ripu_lightning."
TARGETS = {
    "network._target_": [
        "os.system", "builtins.eval", "torch.hub.load", "functools.partial", OURS + "cli.app.os.system",
        OURS + "experiment.instantiate.instantiate", OURS + "networks.weights.Path", OURS + "networks.SmallNet.forward",
        OURS + "networks", OURS + "nothing.Here", "ripu_lightning_evil.Net", "", 3, None,
    ],
    "network.width": [TOUCH, {"deep": [{"er": TOUCH}]}],
    "loss.terms": [TOUCH],
    "data.target_eval": [{"_target_": OURS + "data.Streets", "domain": TOUCH}],
    "data.cache": [TOUCH],
}  # fmt: skip
CASES = [(key, value) for key, values in TARGETS.items() for value in values]


@pytest.mark.parametrize(("key", "value"), CASES, ids=[f"{key}-{number}" for number, (key, _) in enumerate(CASES)])
def test_a_config_names_classes_of_ours_alone(
    failing: Failing, content: dict[str, Any], key: str, value: object
) -> None:
    torch.save(put(content, key, value), "hostile.ckpt")
    line = failing(evaluate.main, "checkpoint=hostile.ckpt", "output=out")
    named = value if key == "network._target_" else "pathlib.Path"
    assert line.startswith("error: checkpoint: hostile.ckpt: its config has ")
    assert repr(named)[:-1] in line
    assert f"built as part of {key.split('.')[0]}" in line


@pytest.mark.parametrize("key", ["_partial_", "_args_", "_other_"])
def test_a_config_has_no_other_say_in_what_is_built(failing: Failing, content: dict[str, Any], key: str) -> None:
    torch.save(put(content, f"network.{key}", True), "hostile.ckpt")
    assert f"its config has {key} in network" in failing(evaluate.main, "checkpoint=hostile.ckpt", "output=out")


@pytest.mark.parametrize("key", ["name", "network.width", "more"])
def test_interpolations_are_not_resolved(
    failing: Failing, content: dict[str, Any], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "the password")
    torch.save(put(content, key, "x${oc.env:SECRET}"), "hostile.ckpt")
    line = failing(evaluate.main, "checkpoint=hostile.ckpt", "output=out")
    assert "holds the interpolation 'x${oc.env:SECRET}'" in line
    assert "password" not in line


def test_a_plugin_is_imported_only_where_it_is_trusted(
    failing: Failing, content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "__init__.py").write_text(
        "from pathlib import Path\nfrom ripu_lightning.networks import SmallNet\nPath('marker').touch()\n"
        "class Net(SmallNet): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.save(put(content, "network._target_", "plugin.Net"), "plugin.ckpt")
    start = ["checkpoint=plugin.ckpt", "output=out", "predictions=null", "trainer.accelerator=cpu"]
    assert "add trust=[plugin]" in failing(evaluate.main, *start)
    assert "add trust=[plugin]" in failing(evaluate.main, *start, "trust=[plug,other]")
    for wrong in ("plugin", "[plugin.Net]", "[3]", "null"):
        assert "trust: expected a list of packages such as" in failing(evaluate.main, *start, f"trust={wrong}")
    assert "plugin" not in sys.modules
    call_main(evaluate.main, *start, "trust=[plugin]")
    assert (tmp_path / "marker").exists()
    assert (tmp_path / "out" / "result.json").is_file()


def test_what_is_not_built_need_not_be_known(
    content: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sets a network was trained on, its strategy and its loggers may be of packages that are not here."""
    for key in ("data.source", "data.target", "strategy", "logger"):
        content = put(content, key, {"_target_": "their.own.Class"})
    content = put(content, "data.target_eval", {"_target_": "their.own.Class"})
    monkeypatch.chdir(tmp_path)
    torch.save(content, "theirs.ckpt")
    given = "+data.target_eval={_target_: test_hostile_checkpoints.streets, length: 2}"
    arguments = ["checkpoint=theirs.ckpt", "output=out", "predictions=null", "trainer.accelerator=cpu", given]
    call_main(evaluate.main, *arguments)
    assert (tmp_path / "out" / "result.json").is_file()


def streets(length: int) -> object:
    """A target that the command line names itself."""
    from ripu_lightning.data import Streets

    return Streets("target", "val", length, 64, 96)


@pytest.mark.parametrize("target", ["os.DeepLabV2", "plugin.DeepLabV3Plus", "os.system"])
def test_conversion_builds_our_networks_alone(failing: Failing, content: dict[str, Any], target: str) -> None:
    network = {"_target_": target, "backbone": "resnet18"}
    torch.save(put(content, "network", network), "hostile.ckpt")
    assert f"the network of hostile.ckpt is {target}" in failing(convert.main, "checkpoint=hostile.ckpt", "to=out")
    ours = {"_target_": OURS + "networks.DeepLabV2", "backbone": "resnet18"}
    torch.save(put(content, "network", {**ours, "batchnorm_eps": TOUCH}), "hostile.ckpt")
    assert "'pathlib.Path.touch' built as" in failing(convert.main, "checkpoint=hostile.ckpt", "to=out")
    torch.save(put(content, "network", {**ours, "output_stride": "${oc.env:HOME}"}), "hostile.ckpt")
    assert "the interpolation '${oc.env:HOME}'" in failing(convert.main, "checkpoint=hostile.ckpt", "to=out")


DAMAGE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no target": lambda content: content["hyper_parameters"]["config"]["network"].pop("_target_"),
    "no schedule": lambda content: content["hyper_parameters"]["config"].pop("schedule"),
    "classes": lambda content: content["hyper_parameters"].update(classes=3),
    "lines": lambda content: content["hyper_parameters"]["classes"]["names"].__setitem__(0, "a\nb"),
    "tensor in config": lambda content: content["hyper_parameters"]["config"].update(name=torch.ones(3)),
    "set in config": lambda content: content["hyper_parameters"]["config"]["data"].update(more={1, 2}),
    "purchase": lambda content: content["callbacks"].update(RunFiles={"strategy": "ripu", "budget": {}}),
    "unit": lambda content: content["callbacks"]["RunFiles"]["budget"].update(unit=[1]),
    "weights": lambda content: content["state_dict"].update(more="x"),
    "names": lambda content: content["state_dict"].update({3: torch.ones(3)}),
    "step": lambda content: content.update(global_step="x"),
    "shape": lambda content: content["state_dict"].update(dict.fromkeys(content["state_dict"], torch.ones(1))),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_checkpoints_of_odd_content_are_one_line(failing: Failing, content: dict[str, Any], kind: str) -> None:
    DAMAGE[kind](content)
    torch.save(content, "odd.ckpt")
    line = failing(evaluate.main, "checkpoint=odd.ckpt", "output=out", "trainer.accelerator=cpu")
    assert line.startswith("error: checkpoint: ")
    assert "odd.ckpt" in line


CONFIGS = {
    "cut": ("seed: 0\nname", "not the config of a run ("),
    "list": ("[1, 2]", "not the config of a run (it has no keys)"),
    "tag": ("a: !!python/object/apply:os.system ['touch marker']", "not the config of a run (could not determine"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_damaged_configs_of_a_run_are_one_line(failing: Failing, kind: str) -> None:
    text, words = CONFIGS[kind]
    Path("run").mkdir()
    Path("run/config.yaml").write_text(text)
    line = failing(train.main, *SMALL, "pictures=0", "output=run")
    assert f"run/config.yaml: {words}" in line


def test_a_runs_config_is_not_resolved(failing: Failing, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "0")
    text = (whole / "config.yaml").read_text()
    Path("run").mkdir()
    Path("run/config.yaml").write_text(text.replace("\nseed: 0\n", "\nseed: ${oc.decode:${oc.env:SEED}}\n"))
    line = failing(train.main, *SMALL, "pictures=0", "output=run")
    assert "seed: the run in" in line
    assert "has '${oc.decode:${oc.env:SEED}}', this command 0" in line
