"""Files from elsewhere: no more is read than their kind can need, and YAML without tags, aliases or great depth."""

import json
import stat
import unicodedata
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from ripu_lightning.errors import UserError

SMALL = 2**18
"""Bytes that no config, class map or result file reaches."""
DEPTH = 32
"""Levels of nesting that none of them reaches."""
_NUMBER = 100  # characters: longer ones cost quadratic time


def read_bounded(path: Path, limit: int = SMALL) -> bytes:
    """The content of a regular file of at most ``limit`` bytes.

    Raises:
        UserError: no such file, one that can not be read, or a larger one.
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
    """What a JSON file says, as plain containers and values.

    Raises:
        ValueError: no JSON, NaN or infinity by name, or a whole number that no count reaches.
        RecursionError: nested without end.
    """
    return json.loads(content, parse_int=_count, parse_constant=_refuse)


def _count(digits: str) -> int:
    number = int(digits)
    if abs(number) >= 2**63:
        raise ValueError("larger than anything counted")
    return number


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no figure")


def parse_yaml(content: bytes) -> Any:
    """What a YAML file says, as plain containers and values.

    Raises:
        ValueError: it is no YAML, or has tags, aliases, keys that repeat, numbers of many
            digits or more than ``DEPTH`` levels; the message is one line.
    """
    try:
        return yaml.load(content.decode("utf-8"), _Plain)
    except (yaml.YAMLError, ValueError) as error:  # PyYAML's own: a month 13, a byte that is no UTF-8
        raise ValueError(" ".join(str(error).split())) from error


def leaves(content: Any) -> Iterator[Any]:
    """All keys of nested mappings, and all values that are neither mappings nor lists.

    Raises:
        ValueError: more than ``DEPTH`` levels, or so many parts that some of them must be shared.
    """
    level = [content]
    parts = 0
    for _ in range(DEPTH):
        deeper: list[Any] = []
        for part in level:
            found = [*part, *part.values()] if isinstance(part, Mapping) else part
            parts += len(found) if isinstance(found, list) else 1
            if parts > SMALL:
                raise ValueError("too many parts")
            if isinstance(found, list):
                deeper += found
            else:
                yield found
        level = deeper
    if level:
        raise ValueError(f"more than {DEPTH} levels deep")


def is_line(text: str) -> bool:
    """Whether text can be printed within a line: no line breaks, control characters or halves of surrogate pairs."""
    return not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text)


def read_config(path: Path) -> dict[str, Any]:
    """The config in a run folder, as it stands there: what looks like an interpolation is text.

    Raises:
        UserError: it can not be read, or is no config.
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


class _Plain(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = cast(Any, self).peek_event()  # has no type in PyYAML's stubs
        line = event.start_mark.line + 1
        # Aliases make a few lines stand for gigabytes, and nothing of ours writes them.
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"line {line} has an alias (*); write it out")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"line {line} has the tag {event.tag}; leave it out")
        if self.depth == DEPTH:
            raise yaml.YAMLError(f"line {line} is more than {DEPTH} levels deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if node.tag.endswith((":int", ":float")) and len(text) > _NUMBER:
            raise yaml.YAMLError(f"a number has {len(text)} characters")
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.YAMLError(f"the key {key.value} is given twice")
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)
