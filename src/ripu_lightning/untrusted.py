"""Small files from other people: of bounded size, YAML and JSON as plain values, nothing executed."""

import json
import re
import stat
import unicodedata
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ripu_lightning.errors import UserError

SMALL = 2**18
"""Bytes that no config, class map or result file reaches."""
DEPTH = 32
"""Levels of nesting that none of them reaches."""


def read_bounded(path: Path, limit: int = SMALL) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        UserError: there is no such file, it cannot be read, or it is larger.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # a pipe would never end, nor would some devices
            raise UserError(f"{path}: is no regular file; check the path")
        if state.st_size > limit:
            raise UserError(f"{path}: has more than {limit:,} bytes, which a file of its kind never has; replace it")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; check the path and its permissions") from error


def parse_json(content: bytes) -> Any:
    """The content of a JSON file, as plain containers and values.

    Raises:
        ValueError: no JSON, NaN or infinity by name, or a whole number that no count reaches.
        RecursionError: nested too deep.
    """

    def count(digits: str) -> int:
        if abs(number := int(digits)) >= 2**63:
            raise ValueError("larger than anything counted")
        return number

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no figure")

    return json.loads(content, parse_int=count, parse_constant=refuse)


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:  # the last one would win in silence
                raise yaml.YAMLError(f"the key {key[1]} is given twice")
        return super().construct_mapping(node, deep)


def parse_yaml(content: bytes, loader: type[yaml.SafeLoader] = _UniqueKeys) -> Any:
    """The content of a YAML file, as plain containers and values.

    Args:
        content: of the file.
        loader: derived from the default.

    Raises:
        ValueError: no YAML, tags that name code, or a key given twice; the message is one line.
    """
    try:
        return yaml.load(content.decode("utf-8"), loader)
    except Exception as error:  # PyYAML's constructors raise nearly anything: a month 13, the tag !!float at a text
        raise ValueError(" ".join(str(error).split())) from error


@dataclass(frozen=True)
class Unclear:
    """A word that YAML reads as something other than its text: ``no``, ``0x10``, ``1:30``, ``2012-04-01``, nothing."""

    text: str

    def __repr__(self) -> str:
        return self.text or "(nothing)"


class _AsTyped(_UniqueKeys):
    pass


def _construct_typed(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int | Unclear:
    decimal = node.tag.endswith(":int") and re.fullmatch(r"0|-?[1-9][0-9]{0,18}", node.value)
    return int(node.value) if decimal else Unclear(node.value)


for _kind in ("bool", "float", "int", "null", "timestamp"):
    _AsTyped.add_constructor(f"tag:yaml.org,2002:{_kind}", _construct_typed)


def parse_typed_yaml(content: bytes) -> Any:
    """The content of a YAML file of text and decimal whole numbers; any other word is an :class:`Unclear`.

    Raises:
        ValueError: see :func:`parse_yaml`.
    """
    return parse_yaml(content, _AsTyped)


def leaves(content: Any, depth: int = DEPTH) -> Iterator[Any]:
    """All keys of nested mappings, and all values that are neither mappings nor lists.

    Raises:
        ValueError: more than ``depth`` levels, as in a list that contains itself.
    """
    if depth == 0:
        raise ValueError(f"more than {DEPTH} levels deep")
    if isinstance(content, Mapping):
        yield from content
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from leaves(part, depth - 1)
    else:
        yield content


def is_line(text: str) -> bool:
    """Whether text can be printed within a line: no line breaks, control characters or halves of surrogate pairs."""
    return not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text)


def read_config(path: Path) -> dict[str, Any]:
    """The config in a run folder, unresolved: what looks like an interpolation is text.

    Raises:
        UserError: it cannot be read, or is no config.
    """
    try:
        config = parse_yaml(read_bounded(path))
        if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
            raise ValueError("it has no keys")
    except UserError:
        raise
    except ValueError as error:
        raise UserError(
            f"{path}: not the config of a run ({error}); restore it from a backup, or choose another output"
        ) from error
    return config
