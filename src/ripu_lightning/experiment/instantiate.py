"""Objects from config: ``_target_`` names a class or function, the other keys are its arguments."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from omegaconf import OmegaConf

from ripu_lightning.errors import UserError, suggest
from ripu_lightning.experiment.config_keys import errors_name_keys

SPECIAL = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}
"""Keys that are no arguments; ``_convert_`` is ignored, as containers are always plain ones."""


def instantiate(config: Any, path: str, **arguments: Any) -> Any:
    """Build what a config describes, with all that is nested in it.

    Args:
        config: an OmegaConf config or plain containers.
        path: its key in the config of the run; errors name it.
        arguments: replace keys of the config, which are not built then.

    Returns:
        The object; with ``_partial_: true`` the function that builds it; without ``_target_`` plain containers.

    Raises:
        UserError: no such class, or an argument that it does not accept.

    >>> instantiate({"_target_": "fractions.Fraction", "_args_": [1, 2]}, "half")
    Fraction(1, 2)
    """
    node = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    return _build(node, path, arguments)


def _build(node: Any, path: str, arguments: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_build(part, f"{path}.{index}", {}) for index, part in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    nested = node.get("_recursive_", True)
    parts = {
        key: _build(value, f"{path}.{key}" if path else str(key), {}) if nested or key == "_args_" else value
        for key, value in node.items()
        if key not in SPECIAL - {"_args_"} and key not in arguments
    }
    parts |= arguments
    if "_target_" not in node:
        return parts
    return _call(locate(node["_target_"], path), parts.pop("_args_", []), parts, path, bool(node.get("_partial_")))


def _call(target: Any, positional: list[Any], named: dict[str, Any], path: str, unfinished: bool) -> Any:
    if unfinished:
        return partial(target, *positional, **named)
    try:
        with errors_name_keys({}, path):
            built = target(*positional, **named)
        if hasattr(built, "config_key"):  # a data set, which names its keys in later errors
            built.config_key = path
        return built
    except (UserError, OSError):
        raise
    except Exception as error:
        raise UserError(f"{path}: {' '.join(str(error).split()) or type(error).__name__}") from error


def locate(target: Any, path: str) -> Any:
    """The class or function of a dotted name.

    Raises:
        UserError: there is none; ``path`` is the key of the config that names it.
    """
    words = target.split(".") if isinstance(target, str) else [""]
    if not all(word.isidentifier() for word in words) or len(words) < 2:
        raise UserError(f"{path}._target_: expected the dotted name of a class or function, got {target!r}")
    found, known = _imported(words, path)
    for word in words[known:]:
        if not hasattr(found, word):
            raise UserError(f"{path}._target_: {found.__name__} has no {word!r}; {suggest(word, dir(found))}")
        found = getattr(found, word)
    if not callable(found):
        raise UserError(f"{path}._target_: {target} is no class or function")
    return found


def _imported(words: list[str], path: str) -> tuple[Any, int]:
    """The innermost module of a dotted name, and how many words name it."""
    for known in range(len(words) - 1, 0, -1):
        name = ".".join(words[:known])
        try:
            return import_module(name), known
        except ModuleNotFoundError as error:
            if not error.name or not f"{name}.".startswith(f"{error.name}."):
                raise UserError(f"{path}._target_: {name} needs {error.name}, which is not installed") from error
        except Exception as error:  # whatever the module of a user raises when it is imported
            raise UserError(f"{path}._target_: importing {name} failed: {error}") from error
    raise UserError(f"{path}._target_: no module {words[0]!r}; install it, or correct {'.'.join(words)}")
