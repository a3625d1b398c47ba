"""Every option of every config group composes, and what it names can be built."""

import inspect
from pathlib import Path
from types import SimpleNamespace

import hydra
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.acquisition import Budget, list_strategies, registry
from ripu_lightning.cli.compose import compose as library_compose
from ripu_lightning.cli.compose import conf_dir
from ripu_lightning.data import load_class_map
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.build import build, build_module, build_optimizer, build_strategy
from ripu_lightning.experiment.config_keys import require_values
from ripu_lightning.networks.batchnorm import NO_EPS
from ripu_lightning.training import Schedule

GROUPS = [
    "network",
    "loss",
    "optimizer",
    "lr_schedule",
    "schedule",
    "trainer",
    "logger",
    "experiment",
    "debug",
    "evaluation",
]
GROUPS += ["strategy", "region_type", "selection_rule", "budget", "annotator", "parity", "scoring"]
OPTIONS = [
    (group, path.relative_to(conf_dir() / group).with_suffix("").as_posix())
    for group in GROUPS
    for path in sorted((conf_dir() / group).rglob("*.yaml"))
]


def compose(*overrides: str) -> DictConfig:
    return library_compose(overrides)


@pytest.fixture(autouse=True)
def _roots(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACDC", "BDD100K", "CAMVID", "CITYSCAPES", "GTAV", "IDD", "SYNTHIA"):
        monkeypatch.setenv(f"RIPU_{name}", "nowhere")  # nothing is opened here


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_option_composes_and_builds(group: str, option: str, tmp_path: Path) -> None:
    given = ["strategy.name=margin"] if option == "registered" else []
    given += ["experiment=gtav/ripu_ra"] if option.endswith("recipe") else []
    config = compose(f"{group}={option}", f"output={tmp_path}", *given)
    require_values(config)
    rounds = build(config, "budget").rounds
    Schedule(config.schedule.steps, config.schedule.first_round, config.schedule.interval, rounds)
    assert config.schedule.horizon >= config.schedule.steps
    if group == "network":
        if "weights" in config.network:
            config.network.weights = None  # nothing is downloaded in tests
        assert build(config, "network", num_classes=3).num_classes == 3
    if group in {"strategy", "region_type", "selection_rule", "loss"} and option != "own":
        assert build(config, group) is not None
    if group in {"optimizer", "lr_schedule"}:
        optimizer, decay = build_optimizer(config)
        weight = torch.nn.Parameter(torch.zeros(1))
        assert decay(optimizer([{"params": [weight]}])).get_last_lr() == [config.optimizer.lr]
    if group == "evaluation":
        assert (build(config, "evaluation").title == "") == (option == "plain")
    if group == "scoring":
        assert bool(build(config, "scoring")) == (option != "plain")
    if group == "trainer":
        assert build(config, "trainer", logger=False).max_epochs is None
    if group == "logger":
        for name in config.logger:
            assert OmegaConf.select(config, f"logger.{name}._target_").startswith("pytorch_lightning.loggers.")


@pytest.mark.parametrize("name", sorted(path.stem for path in (conf_dir() / "sweep").glob("*.yaml")))
def test_every_value_of_a_ready_made_sweep_composes_and_builds(name: str, tmp_path: Path) -> None:
    given = [f"sweep={name}", "experiment=demo", f"output={tmp_path}"]
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        settings = hydra.compose("train", overrides=given, return_hydra_config=True).hydra
    assert settings.mode == RunMode.MULTIRUN
    swept = OverridesParser.create().parse_overrides(
        [f"{key}={value}" for key, value in settings.sweeper.params.items()]
    )
    assert all(override.is_sweep_override() for override in swept)
    values = [(each.key_or_group, value) for each in swept for value in tried(each)]
    assert len(values) > len(swept)
    for key, value in values:
        config = compose(*given, f"{key}={value}")
        require_values(config)
        assert "sweep" not in config
        assert build(config, "budget").rounds > 0
        assert build_strategy(config) is not None
        assert build(config, "loss") is not None


def tried(override: Override) -> list[object]:
    """Its values, or the ends of its interval."""
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    return [interval.start, interval.end]


def test_every_file_says_what_it_is_for() -> None:
    for path in conf_dir().rglob("*.yaml"):
        if "hydra" not in path.parts:
            lines = path.read_text(encoding="utf-8").splitlines()
            assert any(line.startswith("# ") and "@package" not in line for line in lines[:2]), path


def test_every_strategy_has_its_config_with_all_its_options() -> None:
    for name in list_strategies():
        options = set(inspect.signature(registry._FACTORIES[name]).parameters) - {"region_type", "selection_rule"}
        config = compose(f"strategy={name}").strategy
        assert config.name == name
        assert set(config) == {"_target_", "name", *options}
        assert build_strategy(compose(f"strategy={name}")).name == name


def test_rules_nest_and_any_score_avoids_void() -> None:
    given = ["selection_rule=scheduled", "selection_rule@selection_rule.then=k_centre", "selection_rule.rounds=2"]
    strategy = build_strategy(compose("strategy=margin", "+strategy.avoid_void=true", *given))
    rules = [strategy.selection_rule.of_round(number) for number in (1, 2, 3)]
    assert [(rule.name, getattr(rule, "share", None)) for rule in rules[1:]] == [
        ("top_random", 1.0),
        ("k_centre", None),
    ]
    assert rules[0] is rules[1]
    assert (strategy.name, "answers" in strategy.requires) == ("margin", True)


def test_a_compiled_network_is_the_same_network() -> None:
    data = SimpleNamespace(classes=load_class_map("streets"))
    plain, compiled = (build_module(compose("network.width=4", *more), data) for more in ([], ["compile=aot_eager"]))
    compiled.load_state_dict(plain.state_dict())
    taught = build_module(compose("network.width=4", "loss=self_training", "compile=aot_eager"), data)
    assert all(each._compiled_call_impl for each in (compiled.network, taught.network, taught.teacher.module))
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(compiled.eval()(images).logits, plain.eval()(images).logits)
    with pytest.raises(UserError, match="compile: no backend 'inducto'; did you mean 'inductor'"):
        build_module(compose("compile=inducto"), data)


PUBLISHED = [option for group, option in OPTIONS if group == "experiment" and "/" in option]


@pytest.mark.parametrize("experiment", PUBLISHED)
def test_every_published_experiment_can_be_run_as_the_public_code(experiment: str) -> None:
    config = compose(f"experiment={experiment}", "parity=official", "network.backbone=resnet18", "network.weights=null")
    assert (config.network.batchnorm_eps, config.parity.resize_twice) == (0.0, True)
    strategy, losses = build_strategy(config), build(config, "loss")
    assert strategy.selection_rule.exhausted == "origin"
    assert config.strategy.get("eps", 1e-6) == 1e-6
    consistency = [term for name, term in losses.terms.items() if name == "local_consistency"]
    assert all(term.boundary == "official" for term in consistency)


@pytest.mark.parametrize("experiment", ["gtav/ripu_ra", "synthia/ripu_pa", "gtav/ripu_ra_5"])
def test_parity_switches_every_detail(experiment: str) -> None:
    overrides = [f"experiment={experiment}", "network.weights=null", "network.backbone=resnet18"]
    found = {}
    for parity in ([], ["parity=official"]):
        config = compose(*overrides, *parity)
        network, mode = build(config, "network", num_classes=3), build_strategy(config).selection_rule
        boundary = build(config, "loss").terms["local_consistency"].boundary
        epsilons = {child.eps for child in network.modules() if isinstance(child, torch.nn.BatchNorm2d)}
        found[len(parity)] = (config.strategy.eps, boundary, mode.exhausted, epsilons, config.parity.resize_twice)
    assert found[0] == (0.0, "clean", "stop", {1e-5}, False)
    assert found[1] == (1e-6, "official", "origin", {NO_EPS}, True)


def test_region_type_selection_rule_and_published_budget_reach_the_strategy() -> None:
    config = compose(
        "strategy=ripu_point", "region_type=superpixel", "selection_rule=class_balanced", "budget=published"
    )
    strategy = build_strategy(config)
    assert (strategy.region_type.name, strategy.selection_rule.name) == ("superpixel", "class_balanced")
    assert build(config, "budget") == Budget(clicks=40, rounds=5)
