"""Objects from config without Hydra: the same objects that Hydra builds, and errors that name the key."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate as of_hydra
from omegaconf import OmegaConf

from ripu_lightning.acquisition import Square, get_strategy
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.experiment.config_keys import config_key, errors_name_keys
from ripu_lightning.experiment.instantiate import instantiate

FRACTION = {"_target_": "fractions.Fraction", "numerator": 1, "denominator": 3}
NESTED = {"_target_": "builtins.dict", "a": FRACTION, "b": [FRACTION, 2], "c": {"d": FRACTION}, "e": None}


@pytest.mark.parametrize(
    "config",
    [
        FRACTION,
        NESTED,
        {"_target_": "fractions.Fraction", "_args_": [1, 4]},
        {"_target_": "fractions.Fraction.from_float", "_args_": [0.5]},
        {"a": FRACTION, "b": "${a}"},
        {"_target_": "builtins.dict", "a": FRACTION, "_recursive_": False},
    ],
)
def test_builds_what_hydra_builds(config: dict[str, Any]) -> None:
    assert instantiate(OmegaConf.create(config), "key") == of_hydra(OmegaConf.create(config), _convert_="all")


def test_an_argument_replaces_a_part_of_the_config_which_is_not_built() -> None:
    config = {**NESTED, "a": {"_target_": "no.such.module"}}
    assert instantiate(config, "key", a=5)["a"] == 5


def test_partial_gives_the_function() -> None:
    found = instantiate({**FRACTION, "_partial_": True}, "key")
    assert isinstance(found, partial)
    assert found(denominator=5).denominator == 5


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"_target_": "nothing.at.all"}, "data.source._target_: no module 'nothing'"),
        ({"_target_": "pathlib.Pathh"}, "data.source._target_: pathlib has no 'Pathh'; did you mean 'Path'"),
        ({"_target_": "pathlib"}, "data.source._target_: expected the dotted name"),
        ({"_target_": None}, "data.source._target_: expected the dotted name"),
        ({"_target_": "string.digits"}, "data.source._target_: string.digits is no class or function"),
        ({"_target_": "fractions.Fraction", "numer": 1}, "data.source: .*unexpected keyword argument 'numer'"),
        ({"_target_": "fractions.Fraction", "_args_": ["x"]}, "data.source: Invalid literal"),
        (
            {"a": {"_target_": "ripu_lightning.acquisition.Square", "radius": -1}},
            "data.source.a.radius must be",
        ),
        ({"_target_": "ripu_lightning.acquisition.get_strategy", "name": "ripuu"}, "data.source.name .*'ripu'"),
    ],
)
def test_errors_name_the_key(config: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        instantiate(config, "data.source")


def test_a_module_that_lacks_another_one_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacking.py").write_text("import not_installed_here\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, reason in (("lacking", "needs not_installed_here"), ("broken", "failed: division by zero")):
        with pytest.raises(UserError, match=f"network._target_: .*{reason}"):
            instantiate({"_target_": f"{name}.Net"}, "network")


def test_a_file_that_cannot_be_opened_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        instantiate({"_target_": "builtins.open", "file": str(tmp_path / "missing")}, "key")


def test_an_argument_of_the_strategys_own_squares_is_the_strategys() -> None:
    chosen = {"region_type": {"_target_": "x"}, "strategy": {"name": "halo"}}
    assert config_key("Square", "radius", {"region_type": {}}) == "strategy.radius"
    assert config_key("Square", "radius", chosen) == "region_type.radius"
    assert config_key("KCentre", "shortlist", {"selection_rule": {"a": 1}}) == "selection_rule.shortlist"
    assert config_key("halo", "curvature", chosen) == "strategy.curvature"
    assert config_key("SegmentationModule", "network", {}) == "network"
    assert config_key("Schedule", "steps", {}) == "schedule.steps"
    assert config_key("UsersOwn", "x", chosen) is None


def test_an_error_of_an_object_outside_the_config_is_left_unchanged() -> None:
    with pytest.raises(InvalidArgument, match=r"^UsersOwn: x must be 1"), errors_name_keys({}):
        raise InvalidArgument("UsersOwn", "x", "must be 1")
    with pytest.raises(UserError, match=r"^strategy\.radius "), errors_name_keys({"strategy": {"name": "ripu"}}):
        get_strategy("ripu", radius=-1)
    with pytest.raises(InvalidArgument, match=r"^Square: radius"):
        Square(-1)
