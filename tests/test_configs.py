"""Every option of every config group composes, and what it names can be built."""

from pathlib import Path

import hydra
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.cli.app import conf_dir, require_values
from ripu_lightning.training import Stages

GROUPS = ["network", "loss", "optimizer", "schedule", "strategy", "budget", "trainer", "logger", "experiment", "debug"]
OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((conf_dir() / group).glob("*.yaml"))]


def compose(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return hydra.compose("train", overrides=list(overrides))


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_builds(group: str, option: str, tmp_path: Path) -> None:
    config = compose(f"{group}={option}", f"output={tmp_path}")
    require_values(config)
    rounds = instantiate(config.budget).rounds
    Stages(config.schedule.steps, config.schedule.first_round, config.schedule.interval, rounds)
    assert config.schedule.horizon >= config.schedule.steps
    if group == "network":
        if "weights" in config.network:
            config.network.weights = None  # nothing is downloaded in tests
        assert instantiate(config.network, num_classes=3).num_classes == 3
    if group in {"strategy", "loss"}:
        assert instantiate(config[group]) is not None
    if group == "trainer":
        assert instantiate(config.trainer, logger=False).max_epochs is None
    if group == "logger":
        for name in config.logger:
            assert OmegaConf.select(config, f"logger.{name}._target_").startswith("pytorch_lightning.loggers.")


def test_every_file_says_what_it_is_for() -> None:
    for path in conf_dir().rglob("*.yaml"):
        if "hydra" not in path.parts:
            lines = path.read_text(encoding="utf-8").splitlines()
            assert any(line.startswith("# ") and "@package" not in line for line in lines[:2]), path
