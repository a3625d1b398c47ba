"""What ``initial`` and ``pretrain`` refuse: weights of another function, and a first step of another run."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf

import tiny
from ripu_lightning.class_map import ClassMap
from ripu_lightning.cli import train
from ripu_lightning.cli.overrides import quoted
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.checkpoints import GROUPS
from ripu_lightning.experiment.initial import is_finished, load_initial, require_same
from ripu_lightning.report.result import UNKNOWN_LABELLING


def checkpoint(path: Path, **network: object) -> Path:
    torch.manual_seed(1)
    other = tiny.SegmentationModule(tiny.TwoConvs(), tiny.losses(), tiny.CLASSES.names)
    content = {
        "state_dict": other.state_dict(),
        "hyper_parameters": {
            "classes": tiny.CLASSES.as_dict(),
            "config": {
                **{group: {} for group in GROUPS},
                "network": network,
                "name": "a",
                "seed": 0,
                "batchnorm": "frozen",
                "average_decay": None,
            },
        },
        "callbacks": {"RunFiles": UNKNOWN_LABELLING},
    }
    torch.save(content, path)
    return path


def module() -> tiny.SegmentationModule:
    return tiny.module(config={"network": {"_target_": "x"}})


def test_weights_of_the_same_function_are_taken(tmp_path: Path) -> None:
    started = module()
    path = checkpoint(tmp_path / "a.ckpt")
    load_initial(started, path)
    expected = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, expected[name]) for name, value in started.state_dict().items())


def test_weights_of_another_function_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt", batchnorm_eps=0.0)
    with pytest.raises(UserError, match=r"has batchnorm_eps=0.0, .* has None; add network\.batchnorm_eps=0.0$"):
        load_initial(module(), path)


def test_weights_of_other_classes_are_refused(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["classes"] = ClassMap.from_names(["a", "b", "other"]).as_dict()
    torch.save(content, path)
    with pytest.raises(UserError, match=r"initial: .* was trained for the classes a, b, other, not"):
        load_initial(module(), path)


def test_a_first_step_is_finished_after_its_last_step_alone(tmp_path: Path) -> None:
    assert not is_finished(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("schedule: {steps: 8}")
    assert not is_finished(tmp_path)
    for step, finished in ((3, False), (7, False), (8, True)):
        torch.save({"global_step": step}, tmp_path / "checkpoints" / "last.ckpt")
        assert is_finished(tmp_path) == finished


def test_a_first_step_of_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    config = OmegaConf.create({"seed": 1, "network": {"width": 4}, "optimizer": {"lr": 1.0}, "data": {"batch_size": 2}})
    require_same(config, OmegaConf.merge(config, {"optimizer": {"lr": 2.0}}), tmp_path)  # its own affair
    config.data.target = {"length": 5}
    for key in ("seed", "network.width", "data.target.length"):
        other = OmegaConf.merge(config)
        OmegaConf.update(other, key, 7)
        with pytest.raises(UserError, match=rf"pretrain: .*{key}=7"):
            require_same(config, other, tmp_path)


def test_a_first_step_is_no_run_of_an_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sweep counts the run that the agent has started, and not the one before it."""
    seen: dict[str, str] = {}
    of_agent = {f"WANDB_{name}": "x" for name in ("RUN_ID", "SERVICE", "SWEEP_ID", "SWEEP_PARAM_PATH")}
    for name, value in {**of_agent, "WANDB_PROJECT": "mine"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(train, "start_child", lambda _, environment: seen.update(environment))
    settings = OmegaConf.create({"overrides": {"task": []}})
    monkeypatch.setattr(train, "HydraConfig", SimpleNamespace(get=lambda: settings))
    train.train_first("demo_source_only", tmp_path)
    assert seen["WANDB_PROJECT"] == "mine"
    assert not seen.keys() & of_agent.keys()


def test_quotes_in_paths() -> None:
    assert quoted("/it's") == r"'/it\'s'"
