"""The paper's experiments hold the paper's numbers: each config against the values as published, written down here."""

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.cli.compose import conf_dir
from test_configs import compose

PAGE = Path(__file__).parents[1] / "docs" / "reproduce.md"
RECIPE = {
    "optimizer.lr": 2.5e-4,
    "optimizer.head_factor": 10,
    "optimizer.momentum": 0.9,
    "optimizer.weight_decay": 5e-4,
    "optimizer.norm_decay": True,
    "optimizer.layer_decay": 1.0,
    "lr_schedule._target_": "ripu_lightning.training.polynomial_decay",
    "lr_schedule.horizon": 62_500,
    "lr_schedule.power": 0.9,
    "lr_schedule.warmup_steps": 0,
    "batchnorm": "frozen",
    "average_decay": None,
    "schedule.steps": 40_000,
    "schedule.horizon": 62_500,
    "schedule.first_round": 10_000,
    "schedule.interval": 2_000,
    "network._target_": "ripu_lightning.networks.DeepLabV2",
    "network.backbone": "resnet101",
    "network.output_stride": 8,
    "network.weights": "imagenet",
    "data.target_size": [640, 1280],
    "data.batch_size": 2,
    "data.source_sampling": "class_balanced",
    "data.augment": [],
    "data.target_labels": "queried",
    "evaluation.mirror": True,
    "evaluation.scales": [1.0],
    "evaluation.window": None,
    "initial": None,
    "pretrain": None,
}
RIPU_LOSS = {"source_ce": 1.0, "target_ce": 1.0, "local_consistency": 0.1, "negative_learning": 1.0}
TERMS = {
    "loss.terms.local_consistency.norm": "l1",
    "loss.terms.local_consistency.boundary": "clean",
    "loss.terms.negative_learning.threshold": 0.05,
}
REGIONS = {
    "strategy.name": "ripu",
    "strategy.radius": 1,
    "budget.ratio": 0.022,
    "budget.rounds": 5,
    "budget.per": "image",
}
NONE = {"budget.rounds": 0}
V3PLUS = {
    "network._target_": "ripu_lightning.networks.DeepLabV3Plus",
    "network.channels": 512,
    "network.dropout": 0.1,
}
SOURCE_FREE = {"schedule.steps": 30_000, "schedule.first_round": 0, "strategy.radius": 9, "data.source": None}
FIRST_STEP = {"optimizer.lr": 5e-4, "schedule.steps": 20_000, "schedule.horizon": 31_250, "lr_schedule.horizon": 31_250}
SUPERVISED = {**NONE, "data.target_labels": "all", "data.source": None}
# Experiment -> the weights of its losses, and what differs from, or comes on top of, the recipe.
EXPERIMENTS: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "ripu_ra": (RIPU_LOSS, {**REGIONS, **TERMS}),
    "ripu_ra_5": (RIPU_LOSS, {**REGIONS, **TERMS, **V3PLUS, "budget.ratio": 0.05}),
    "ripu_pa": (RIPU_LOSS, {**TERMS, "strategy.name": "ripu_point", "strategy.radius": 32, "budget.clicks": 40}),
    "random": (RIPU_LOSS, {**REGIONS, **TERMS, "strategy.name": "random"}),
    "entropy": (RIPU_LOSS, {**REGIONS, **TERMS, "strategy.name": "entropy"}),
    "impurity": (RIPU_LOSS, {**REGIONS, **TERMS, "strategy.name": "impurity"}),
    "uncertainty": (RIPU_LOSS, {**REGIONS, **TERMS, "strategy.name": "uncertainty"}),
    "source_only": ({"source_ce": 1.0}, NONE),
    "supervised": ({"target_ce": 1.0}, SUPERVISED),
    "supervised_v3plus": ({"target_ce": 1.0}, {**SUPERVISED, **V3PLUS}),
    "source_model": ({"source_ce": 1.0}, {**NONE, **FIRST_STEP}),
    "source_free": ({"target_ce": 1.0, "negative_learning": 1.0}, {**REGIONS, **SOURCE_FREE}),
    "no_local_consistency": ({**RIPU_LOSS, "local_consistency": 0.0}, REGIONS),
    "no_negative_learning": ({**RIPU_LOSS, "negative_learning": 0.0}, REGIONS),
    "cross_entropy": ({"source_ce": 1.0, "target_ce": 1.0}, REGIONS),
    "self_training": ({**RIPU_LOSS, "pseudo_labels": 1.0, "class_mix": 1.0}, {**REGIONS, **TERMS}),
}
DOMAINS = {
    "gtav": {
        "data.source_size": [720, 1280],
        "data.source.classes": "cityscapes_19",
        "data.target.classes": "cityscapes_19",
    },
    "synthia": {
        "data.source_size": [720, 1280],
        "data.source.classes": "synthia_16",
        "data.target.classes": "cityscapes_16",
    },
}


@pytest.fixture(autouse=True)
def _roots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CITYSCAPES", "GTAV", "SYNTHIA"):
        monkeypatch.setenv(f"RIPU_{name}", "nowhere")


def found(config: DictConfig, key: str) -> object:
    value = OmegaConf.select(config, key)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def test_no_experiment_is_left_out() -> None:
    for domain in DOMAINS:
        assert {path.stem for path in (conf_dir() / "experiment" / domain).glob("*.yaml")} == set(EXPERIMENTS)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_the_published_one(domain: str, name: str) -> None:
    weights, own = EXPERIMENTS[name]
    expected = {**RECIPE, **DOMAINS[domain], **own, "loss.weights": weights, "name": f"{domain}_{name}"}
    if name == "source_free":
        expected["pretrain"] = f"{domain}/source_model"
    if expected.get("data.source", True) is None:
        del expected["data.source.classes"]
    if (domain, name) == ("synthia", "source_model"):
        expected["data.source_size"] = [512, 1024]
    if name.startswith("ripu_ra") or name == "source_free":
        expected["region_type"] = {}  # the strategy's own: squares of its radius
    config = compose(f"experiment={domain}/{name}")
    assert {key: found(config, key) for key in expected} == expected


def test_published_figures_are_those_of_the_page() -> None:
    """Each experiment's comment gives the figures that its row on the page has."""
    rows = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines() if "experiment=gtav/" in line]
    rows = [row for row in rows if len(row) == 9 and "budget." not in row[6]]  # of the first table; no variant
    assert len(rows) == 10
    for row in rows:
        name = re.search(r"gtav/(\w+)", row[6])
        assert name is not None
        for domain, cell in (("gtav", row[4]), ("synthia", row[5])):
            comment = (conf_dir() / "experiment" / domain / f"{name[1]}.yaml").read_text().splitlines()[1]
            said = re.findall(
                r"\d+\.\d|\b\d\d\b(?= mIoU)", comment.split("Published:")[1] if "Published:" in comment else ""
            )
            assert said == re.findall(r"\d+\.\d|\b\d\d\b(?= in)", cell), (domain, name[1])
