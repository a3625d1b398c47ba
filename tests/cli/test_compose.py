"""``compose``: the config of a command without a command, and the answers to overrides that do not fit."""

from pathlib import Path

import pytest
from hydra import compose as compose_of_hydra
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from ripu_lightning.cli.compose import compose, conf_dir, config_loader, load
from ripu_lightning.errors import UserError


def test_the_config_is_hydras_and_no_state_is_left_also_where_hydra_is_active() -> None:
    given = ["experiment=demo", "seed=1", "strategy=entropy", "+data.source.more=2", "output=here"]
    GlobalHydra.instance().clear()
    alone = compose(given)
    assert not GlobalHydra.instance().is_initialized()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        active = GlobalHydra.instance().hydra
        assert compose(given) == alone == compose_of_hydra("train", given)
        assert GlobalHydra.instance().hydra is active
    assert "hydra" not in alone
    assert compose(["name=own"]).output.startswith("runs/own/2")  # ${start:} is the time


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("bugdet.ratio=0.1", "no key 'bugdet.ratio' in the config; did you mean 'budget.ratio'"),
        ("~strategy.radios", "no key 'strategy.radios' in the config; did you mean 'strategy.radius'"),
        ("stratgy=ripu", "no key 'stratgy' in the config; did you mean 'strategy'"),
        ("strategy=entropi", "strategy: no option 'entropi'; did you mean 'entropy'?"),
        ("experiment=gtav/ripu_rb", "experiment: no option 'gtav/ripu_rb'; did you mean 'ripu_ra'"),
        ("strategy=null", "strategy: a group cannot be null"),
        ("region_type={_target_: mine.Own}", r"region_type: .*\+region_type._target_="),
        ("dataset@data.source=gtav", "no key 'dataset@data.source' in the config; did you mean 'data.source'"),
        ("hydra.run.dirr=x", "no key 'hydra.run.dirr' in the config; did you mean 'hydra.run.dir'"),
        ("budget.ratio=[0.1", r"budget.ratio=\[0.1: a \] is missing; close it"),
        ("name='x", "name='x: a ' is missing; close it"),
        ("+seed=2", r"\+seed: is in the config already; leave out the plus"),
        ("seed=1,2", r"seed=1,2: a comma .* add -m, for a list write 'seed=\[1,2\]', for text 'seed=\"1,2\"'$"),
        ("seed=range(1,3)", r"seed=range\(1,3\): is a sweep; add -m"),
        ("output=", "output=: has no value after =.*environment variable unset"),
        ("=3", "=3: expected key=value, with a key"),
        ("output={a: 1}", r"output={a: 1}: expected text; .* 'output=\"{a: 1}\"'$"),
        ("per_class=maybe", "per_class: expected true or false, got 'maybe'"),
        ("budget.ratio=many", "budget.ratio: expected a number, such as 0.022, got 'many'"),
        ("network=/tmp/own", "network: no option '/tmp/own'; known: deeplab_v2, "),
        ("foo=1", r"no key 'foo' in the config; .* \+foo=... adds a new one"),
        ("+bugdet.ratio=0.1", r"\+bugdet.ratio: nothing reads this key; did you mean budget.ratio\?"),
        ("+sed=1", r"\+sed: nothing reads this key; did you mean seed\?"),
    ],
)
def test_an_override_that_does_not_fit_gets_its_line(override: str, line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        compose(["seed=3", override, "network=small"])


def test_keys_that_an_option_brings_and_keys_that_are_added_are_known() -> None:
    assert compose(["network.encoder=resnet18", "network=smp"]).network.encoder == "resnet18"
    assert compose(["+region_type.own=2", "region_type.own=3"]).region_type.own == 3
    with pytest.raises(UserError, match=r"^no key 'network\.encoder'"):
        compose(["network.encoder=resnet18"])


def test_all_values_of_a_sweep_are_checked_at_once() -> None:
    line = ["strategy=ripu,entropi", "seed=1,2"]
    with pytest.raises(UserError, match=r"^strategy: no option 'entropi'"):
        load(config_loader(), "train", line, sweep=True)
    assert (
        load(config_loader(), "train", ["strategy=ripu,entropy", "optimizer.lr=interval(0.1,1)"], sweep=True).seed == 0
    )


def test_keys_of_the_checkpoint_want_a_plus() -> None:
    with pytest.raises(UserError, match=r"^data\.batch_size: no such key here; \+data\.batch_size="):
        compose(["checkpoint=x", "data.batch_size=1"], "evaluate")


def test_configs_of_the_user_are_known_by_their_folder(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nname: mine\n")
    assert load(config_loader(str(tmp_path)), "train", ["experiment=mine"]).name == "mine"
    searched = [f"hydra.searchpath=[{tmp_path}]", "experiment=mine"]
    assert load(config_loader(), "train", searched).name == "mine"
    assert load(config_loader(), "train", [*searched, "seed=1,2"], sweep=True).name == "mine"
    with pytest.raises(UserError, match=r"^no key 'sed'"):
        load(config_loader(), "train", [*searched, "sed=1"])
    with pytest.raises(UserError, match=r"^experiment: no option 'mine'"):
        load(config_loader(), "train", ["experiment=mine"])
    with pytest.raises(UserError, match=r"^--config-dir: there is no folder"):
        config_loader(str(tmp_path / "other"))
