"""Configs from overrides, checked before Hydra composes them, and without Hydra's global state."""

import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from ripu_lightning.cli.overrides import is_text, keep_text, refuse_value, why_ambiguous, why_unreadable
from ripu_lightning.errors import UserError, suggest
from ripu_lightning.experiment import launching as launching  # registers ${start:}
from ripu_lightning.experiment.config_keys import first_line

FROM_CHECKPOINT = {"evaluate": ("data.", "evaluation."), "compare": ("data.",)}
"""Command -> keys that are the checkpoint's; a plus in front of a key changes them."""
EXTRAS = {"submitit_local": "cluster", "submitit_slurm": "cluster", "joblib": "joblib", "optuna": "optuna"}
"""Launcher or sweeper of Hydra -> the extra that brings it."""
COMPOSING = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra raises where overrides do not fit the configs."""


def compose(overrides: Sequence[str] = (), config_name: str = "train") -> DictConfig:
    """The config of a command, as its command line would compose it.

    ``output`` keeps its ``${start:}``, the time at which it is read; ``run_experiment`` puts its own folder there.

    Args:
        overrides: as on the command line, such as ``["experiment=demo", "seed=1"]``.
        config_name: ``train``, ``evaluate``, ``compare`` or ``convert``.

    Raises:
        UserError: an override that does not fit; the line suggests one that does.

    >>> compose(["schedule.steps=900", "network=small"]).schedule.steps
    900
    """
    config = load(config_loader(), config_name, keep_text(overrides))
    with open_dict(config):
        del config["hydra"]
    return config


def conf_dir() -> Path:
    """The folder of configs: inside an installed wheel, next to ``src`` in a clone."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def config_loader(config_dir: str | None = None) -> ConfigLoaderImpl:
    """Hydra's loader of our configs, and of a user's own folder if one is given (``--config-dir``)."""
    search_path = create_config_search_path(str(conf_dir()))
    if config_dir:
        if not Path(config_dir).is_dir():
            raise UserError(f"--config-dir: there is no folder {config_dir}")
        schema = SearchPathQuery(provider="schema")  # Hydra wants it last
        search_path.prepend("command-line", f"file://{Path(config_dir).absolute()}", schema)
    return ConfigLoaderImpl(search_path)


def searching(loader: ConfigLoader, overrides: list[str]) -> ConfigLoaderImpl:
    """A loader that also knows the folders of ``hydra.searchpath``, which Hydra's own reads only to compose."""
    search_path = deepcopy(loader.get_search_path())
    for override in _parsed(loader, overrides):
        folders = override.value() if override.get_key_element() == "hydra.searchpath" else None
        for folder in folders if isinstance(folders, list) else []:
            search_path.prepend("hydra.searchpath", str(folder), SearchPathQuery(provider="schema"))
    return ConfigLoaderImpl(search_path)


def load(loader: ConfigLoaderImpl, config_name: str, overrides: list[str], sweep: bool = False) -> DictConfig:
    """Compose, with Hydra's own config under ``hydra``; of a sweep the first job, after a look at all its options.

    Raises:
        UserError: naming the override that does not fit.
    """
    parsed = _parsed(loader, overrides)
    try:
        config = _load(loader, config_name, [_without_sweep(each) for each in parsed] if sweep else overrides)
        extended = searching(loader, overrides)
        for override in parsed:
            _check_option(extended, override)
        _check_types(loader, config_name, parsed)
        _check_new_keys(extended, config_name, parsed)
        return config
    except COMPOSING as error:
        if isinstance(error, UserError):
            raise
        loader = searching(loader, overrides)
        # Groups first, as Hydra does, because they bring the keys that others change.
        order = sorted(parsed, key=lambda each: not _is_group(loader, each))
        known = _load(loader, config_name, [])
        for number, override in enumerate(order, 1):
            _check_option(loader, override)
            try:
                known = _load(loader, config_name, [_without_sweep(each) for each in order[:number]])
            except COMPOSING as reason:
                raise UserError(_problem(override, known, config_name, reason)) from error
        raise UserError(explain_composing(error)) from error


def _load(loader: ConfigLoaderImpl, config_name: str, overrides: list[str]) -> DictConfig:
    return loader.load_configuration(config_name, overrides, run_mode=RunMode.RUN, from_shell=False)


def _parsed(loader: ConfigLoader, overrides: list[str]) -> list[Override]:
    try:
        parsed = OverridesParser.create(loader).parse_overrides(overrides)
    except OverrideParseException as error:
        raise UserError(why_unreadable(str(error.override), _groups_with(loader, str(error.override)))) from error
    for override in parsed:
        if line := refuse_value(str(override.input_line), override.value()):
            raise UserError(line)
    return parsed


def _groups_with(loader: ConfigLoader, option: str) -> list[str]:
    """The groups that have an option of this name; the first one is what a newcomer means."""
    groups = ("experiment", "sweep", "debug", "data", "strategy", "network", "loss", "region_type", "budget")
    return [group for group in groups if option in loader.get_group_options(group)]


def _is_group(loader: ConfigLoaderImpl, override: Override) -> bool:
    return any(_options(loader, override.key_or_group, kind) for kind in (ObjectType.CONFIG, ObjectType.GROUP))


def _options(loader: ConfigLoaderImpl, group: str, kind: ObjectType = ObjectType.CONFIG) -> list[str]:
    """What a group holds; the loader's own method of this name copies all that it knows, which takes its time."""
    return list(loader.repository.get_group_options(group, kind))


def _check_option(loader: ConfigLoaderImpl, override: Override) -> None:
    """Refuse options that a group does not have, also among the values of a sweep."""
    group = override.key_or_group
    if override.is_delete() or not _is_group(loader, override):
        return
    given: Any = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else override.value()
    values = given if isinstance(given, list) else [given]
    for option in values:
        if option is None:
            raise UserError(f"{group}: a group cannot be null; choose an option, or leave it out (--help lists them)")
        if not isinstance(option, str):
            raise UserError(f"{group}: expected the name of an option; a class of your own: +{group}._target_=...")
        if override.is_add():
            continue
        folder, _, name = option.rpartition("/")
        known = _options(loader, f"{group}/{folder}" if folder else group)
        if name not in known:
            known = known or _options(loader, group)
            raise UserError(_no_option(group, option, known))


def explain_composing(error: Exception) -> str:
    """The line for what Hydra or OmegaConf says of a command line."""
    line = first_line(error)
    if several := re.match(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: requires|$)", line):
        return why_ambiguous(several[1])
    if there := re.match(r"Could not append to config. An item is already at '(.*)'", line):
        return f"+{there[1]}: is in the config already; leave out the plus to change it"
    if name := re.match(r"Cannot find primary config '(.*?)'", line):
        return f"--config-name: no config {name[1]!r}; leave it out, or give the folder that holds it by --config-dir"
    return line


def _check_types(loader: ConfigLoaderImpl, config_name: str, parsed: Sequence[Override]) -> None:
    """Refuse words where the configs have a number or a truth value; the trainer takes some, such as ``auto``."""
    words = [(each, _words(each)) for each in parsed if not (each.is_add() or _is_group(loader, each))]
    words = [(each, found) for each, found in words if found and not is_text(each.key_or_group)]
    if not words:
        return
    chosen = [each for each in parsed if _is_group(loader, each) or each.get_key_element() == "hydra.searchpath"]
    before = _load(loader, config_name, [str(each.input_line) for each in chosen if not each.is_sweep_override()])
    for override, found in words:
        key, default = override.get_key_element(), OmegaConf.select(before, override.key_or_group)
        if isinstance(default, bool):
            raise UserError(f"{key}: expected true or false, got {found[0]!r}")
        if isinstance(default, (int, float)) and not key.startswith("trainer."):
            raise UserError(f"{key}: expected a number, such as {default}, got {found[0]!r}")


def _check_new_keys(loader: ConfigLoaderImpl, config_name: str, parsed: Sequence[Override]) -> None:
    """Refuse ``+bugdet.ratio=0.1``: a new key that is nearly one of ours would change nothing, in silence."""
    new = [each for each in parsed if each.is_add() and not _is_group(loader, each)]
    if not new:
        return
    known = [str(key) for key in _load(loader, config_name, [])]
    for override in new:
        first, _, rest = override.key_or_group.partition(".")
        near = get_close_matches(first, known, n=1, cutoff=0.8)
        if near and first not in known:
            meant = ".".join([near[0], *([rest] if rest else [])])
            raise UserError(f"+{override.key_or_group}: nothing reads this key; did you mean {meant}?")


def _words(override: Override) -> list[str]:
    """The values of an override that are text without references to other keys."""
    value: Any = override.value()
    given = value.list if override.is_choice_sweep() else [value]
    return [str(each) for each in given if isinstance(each, (str, QuotedString)) and "$" not in str(each)]


def _no_option(group: str, option: str, known: Sequence[str]) -> str:
    if group in ("hydra/launcher", "hydra/sweeper") and option in EXTRAS:
        return f"{group}={option}: not installed; pip install 'ripu-lightning[{EXTRAS[option]}]'"
    return f"{group}: no option {option!r}; {suggest(option.rpartition('/')[2], known)}"


def _without_sweep(override: Override) -> str:
    """The override with the first of its values."""
    line = str(override.input_line)
    if not override.is_sweep_override():
        return line
    value = override.value()
    first = value.start if isinstance(value, IntervalSweep) else next(iter(override.sweep_string_iterator()))
    return f"{line.partition('=')[0]}={first}"


def _problem(override: Override, config: DictConfig, config_name: str, reason: Exception) -> str:
    """Why an override does not fit the config that is composed of those before it."""
    if isinstance(reason, MissingConfigException) and reason.missing_cfg_file:  # of the defaults of an option
        group, _, option = str(reason.missing_cfg_file).rpartition("/")
        return _no_option(group, option, reason.options or ())
    key, known = override.get_key_element().lstrip("+~"), list(_flatten(config))
    if key.startswith(FROM_CHECKPOINT.get(config_name, ())):
        return f"{key}: no such key here; +{key}=... with a plus in front changes the checkpoint's own config"
    if key in known:
        return explain_composing(reason)
    near = {*known, *map(str, config.hydra.runtime.choices)}
    near = {name for name in near if name.startswith("hydra") == key.startswith("hydra")}
    return f"no key {key!r} in the config; {suggest(key, near)} (--help lists all keys; +{key}=... adds a new one)"


def _flatten(config: DictConfig, prefix: str = "") -> Iterator[str]:
    for key in map(str, config.keys()):
        name = f"{prefix}{key}"
        yield name
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(config[key], DictConfig):
            yield from _flatten(config[key], f"{name}.")
