"""Overrides as people type them: text that stays text, quotes that a shell keeps, and why Hydra cannot read one."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

TEXT = re.compile(
    r"output|name|checkpoint|to|(.+\.)?(name|root)|hydra\.(run|sweep)\.dir|hydra\.sweep\.subdir"
    r"|logger\..+\.(save_dir|version|experiment_name)"
)
"""Keys that hold text, whatever was typed: ``output=2024_11_29`` is no number, ``name=null`` is a name."""
TEXT_OR_NULL = re.compile(
    r"initial|pretrain|labels|classes|network\.weights|(.+\.)?(split|folder|cache)|data\..+\.(images|labels|classes)"
    r"|logger\..+\.(project|entity|group|notes|id|tags|run_name|run_id|tracking_uri)"
)
"""Keys that hold text or null."""
NULL = re.compile(r"null", re.IGNORECASE)
NO_TEXT = re.compile(r"[+-]?[\d_.]*(e[+-]?[\d_]+)?|[+-]?(inf|nan)|true|false|null", re.IGNORECASE)
"""What Hydra reads as something else than text, and a little more."""
WORD = re.compile(r"[^,\[\]]+")
UNREADABLE = re.compile(r"[^\w\s/\\.$%*@?|:,+\[\]{}()'\"-]|[^\x00-\x7f]")
"""Characters that Hydra reads in quotes only."""
PAIRS = {"[": "]", "{": "}", "(": ")", "'": "'", '"': '"'}


def quoted(text: str | Path) -> str:
    r"""Text as the value of an override, whatever characters it holds.

    >>> print(quoted("runs/it's"))
    'runs/it\'s'
    """
    return "'" + _escaped(str(text), "'") + "'"


def for_shell(key: str, value: str) -> str:
    """An override with quotes for the shell outside, and those for Hydra inside.

    >>> print(for_shell("output", "runs/lr=0.1"))
    'output="runs/lr=0.1"'
    """
    return shlex.quote(f'{key}="' + _escaped(value, '"') + '"')


def is_text(key: str) -> bool:
    """Whether a key holds text, whatever was typed."""
    return bool(TEXT.fullmatch(key) or TEXT_OR_NULL.fullmatch(key))


def keep_text(overrides: Sequence[str]) -> list[str]:
    """The overrides, with quotes around text that Hydra would read as a number, a truth value or null.

    >>> keep_text(["output=2024_11_29", "name=1e3,b", "seed=1e3", "data.target.split=null"])
    ["output='2024_11_29'", "name='1e3',b", 'seed=1e3', 'data.target.split=null']
    """
    return [_keep_text(override) for override in overrides]


def _keep_text(override: str) -> str:
    key, equals, value = override.partition("=")
    name = key.lstrip("+")
    may_be_null = TEXT_OR_NULL.fullmatch(name) is not None
    if not equals or not (may_be_null or TEXT.fullmatch(name)):
        return override
    if value.strip() == "~":
        return f"{key}='~'"
    if not re.fullmatch(r"[\w.+\-,\[\]\s]*", value, re.ASCII):
        return override  # with a character that no number has, or with quotes of its own

    def keep(match: re.Match[str]) -> str:
        word = match[0].strip()
        kept = not NO_TEXT.fullmatch(word) or (may_be_null and NULL.fullmatch(word))
        return match[0] if kept or not word else quoted(word)

    return f"{key}={WORD.sub(keep, value)}"


def why_unreadable(override: str, groups: Sequence[str] = ()) -> str:
    """The line for an override that Hydra cannot parse.

    Args:
        override: as typed.
        groups: groups that have an option of this name.
    """
    key, equals, value = override.partition("=")
    if not equals:
        meant = f"did you mean {' or '.join(f'{group}={override}' for group in groups)}?" if groups else ""
        return f"{override}: expected key=value or group=option; {meant or '--help lists them'}"
    if not re.fullmatch(r"(\+{0,2}|~)[\w.@:/$-]+", key, re.ASCII):
        return f"{override}: expected key=value, with a key of the config before the first ="
    if wrong := UNREADABLE.search(value):
        return f"{override}: Hydra reads {wrong[0]!r} in quotes only; write {for_shell(key, value)}"
    if missing := _unclosed(value):
        return f"{override}: {missing}; close it, or write {for_shell(key, value)} if it belongs to the text"
    return f"{override}: cannot be read; if the value is text, write {for_shell(key, value)}"


def why_ambiguous(override: str) -> str:
    """The line for several values, where no sweep was asked for."""
    key, _, value = override.replace("','", ",").partition("=")  # keep_text put these quotes there
    value = value.strip("'")
    if "(" in value:
        return f"{key}={value}: is a sweep; add -m to start its jobs one after the other, or give one value"
    return (
        f"{key}={value}: a comma separates the jobs of a sweep; for a sweep add -m, "
        f"for a list write '{key}=[{value}]', for text {for_shell(key, value)}"
    )


def refuse_value(override: str, value: object) -> str | None:
    """The line for an override without key or value, or with a list or mapping where text belongs; None for others."""
    key, equals, given = override.partition("=")
    if not key:
        return f"{override}: expected key=value, with a key of the config before the ="
    if equals and not given.strip() and not key.startswith("~"):
        return f"{override}: has no value after =; give one (is an environment variable unset?), or null for none"
    if TEXT.fullmatch(key.lstrip("+")) and isinstance(value, (list, dict)):
        return f"{override}: expected text; if the brackets belong to it, write {for_shell(key, given)}"
    return None


def _unclosed(value: str) -> str | None:
    waiting: list[str] = []
    for character in value:
        if waiting and waiting[-1] in "'\"":
            if character == waiting[-1]:
                waiting.pop()
        elif character in PAIRS:
            waiting.append(PAIRS[character])
        elif character in PAIRS.values() and (not waiting or waiting.pop() != character):
            return f"{character} closes nothing"
    return f"a {waiting[-1]} is missing" if waiting else None


def _escaped(text: str, quote: str) -> str:
    # A backslash counts as one only in front of a quote, also of the closing one.
    return re.sub(rf"(\\*)({quote}|$)", lambda match: match[1] * 2 + (f"\\{quote}" if match[2] else ""), text)
