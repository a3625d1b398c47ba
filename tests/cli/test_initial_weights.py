"""What ``initial`` and ``pretrain`` refuse: weights of another function, and a first step of another run."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

import tiny
from ripu_lightning.cli.app import quoted
from ripu_lightning.cli.initial import _require_same, load_initial
from ripu_lightning.errors import UserError


def checkpoint(path: Path, **network: object) -> Path:
    torch.manual_seed(1)
    other = tiny.SegmentationModule(tiny.TwoConvs(), tiny.losses(), tiny.CLASSES.names)
    content = {
        "state_dict": other.state_dict(),
        "hyper_parameters": {
            "classes": list(tiny.CLASSES.names),
            "config": {"network": {"_target_": "x", **network}, "data": {}},
        },
        "callbacks": {"RunFiles": {}},
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


@pytest.mark.parametrize(("key", "value", "said"), [("batchnorm_eps", 0.0, "0.0"), ("full_size", True, "true")])
def test_weights_of_another_function_are_refused(tmp_path: Path, key: str, value: object, said: str) -> None:
    path = checkpoint(tmp_path / "a.ckpt", **{key: value})
    with pytest.raises(UserError, match=rf"{key}=.*add network\.{key}={said}$"):
        load_initial(module(), path)


def test_a_first_step_of_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    config = OmegaConf.create({"seed": 1, "network": {"width": 4}, "optimizer": {"lr": 1.0}, "data": {"batch_size": 2}})
    _require_same(config, OmegaConf.merge(config, {"optimizer": {"lr": 2.0}}), tmp_path)  # its own affair
    for key in ("seed", "network.width"):
        other = OmegaConf.merge(config)
        OmegaConf.update(other, key, 7)
        with pytest.raises(UserError, match=rf"pretrain: .*{key}=7"):
            _require_same(config, other, tmp_path)


def test_quotes_in_paths() -> None:
    assert quoted("/it's") == r"'/it\'s'"
