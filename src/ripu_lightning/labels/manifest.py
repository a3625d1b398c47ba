"""The manifest of a label store: whose labels these are, all rounds ever committed, and which of them are in force."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from ripu_lightning.errors import UserError
from ripu_lightning.labels.answers import NOT_ASKED
from ripu_lightning.labels.entry import LARGEST, Round, is_sha256

NAME = "manifest.json"
FORMAT = 2


@dataclass(frozen=True)
class Manifest:
    """Identity of the data, and a tree of rounds of which the path from a root to the head is in force.

    Args:
        classes: class names by index.
        count: number of images.
        fingerprint: SHA-256 of the sorted image ids with their sizes, see :func:`fingerprint`.
        committed: all rounds ever committed, in the order of their commits; a parent comes before its children.
        head: ``sha256`` of the last round in force; None where none is.

    Raises:
        ValueError: a manifest that can not be.
    """

    classes: tuple[str, ...]
    count: int
    fingerprint: str
    committed: tuple[Round, ...] = ()
    head: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= NOT_ASKED:
            raise ValueError(f"{len(self.classes)} classes; a label store holds 1 to {NOT_ASKED}")
        if not 0 <= self.count < LARGEST or not is_sha256(self.fingerprint):
            raise ValueError(f"the images {self.count!r}, {self.fingerprint!r} can not be")
        numbers: dict[str | None, int] = {None: 0}
        for entry in self.committed:
            if entry.sha256 in numbers:
                raise ValueError(f"round {entry.id} is listed twice")
            if entry.parent not in numbers or entry.number != numbers[entry.parent] + 1:
                raise ValueError(f"round {entry.id} is number {entry.number}, but does not follow such a round")
            numbers[entry.sha256] = entry.number
        if len({entry.file for entry in self.committed}) != len(self.committed):
            raise ValueError("two rounds share a file")
        if self.head not in numbers:
            raise ValueError(f"its head {self.head!r} is no round")

    @cached_property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds in force, numbered 1, 2, 3, ..."""
        known = {entry.sha256: entry for entry in self.committed}
        chain, at = [], self.head
        while at is not None:
            chain.append(known[at])
            at = known[at].parent
        return tuple(reversed(chain))

    @cached_property
    def set_aside(self) -> tuple[Round, ...]:
        """The rounds not in force, in the order of their commits."""
        chain = {entry.sha256 for entry in self.rounds}
        return tuple(entry for entry in self.committed if entry.sha256 not in chain)

    def next_file(self) -> str:
        """A name for the next round's file that no committed round has."""
        taken, number = {entry.file for entry in self.committed}, len(self.rounds) + 1
        name, again = f"round_{number:03d}.parquet", 2
        while name in taken:
            name, again = f"round_{number:03d}_{again}.parquet", again + 1
        return name

    def with_round(self, entry: Round) -> "Manifest":
        """``entry`` committed and in force."""
        return replace(self, committed=(*self.committed, entry), head=entry.sha256)

    def at(self, to: int | str) -> "Manifest":
        """Another head, and nothing else.

        Args:
            to: number of a round in force (0 for none), or the first 6 or more digits of any round's ``sha256``.

        Raises:
            UserError: no such round, or more than one.
        """
        if isinstance(to, int) or re.fullmatch(r"[0-9]{1,5}", to):
            if not 0 <= int(to) <= len(self.rounds):
                raise UserError(
                    f"round {to}: the rounds in force are numbered 0 (none) to {len(self.rounds)}; give another one "
                    "the first 6 digits of its id, which ripu-labels list tells"
                )
            return replace(self, head=self.rounds[int(to) - 1].sha256 if int(to) else None)
        if not re.fullmatch(r"[0-9a-f]{6,64}", to):
            raise UserError(f"round {to!r}: expected a round's number, or the first 6 or more digits of its id")
        found = [entry.sha256 for entry in self.committed if entry.sha256.startswith(to)]
        if len(found) != 1:
            raise UserError(f"round {to}: {len(found) or 'no'} rounds' ids begin so; ripu-labels list tells them")
        return replace(self, head=found[0])

    def to_json(self) -> str:
        """The text of the manifest file."""
        content = {
            "format": FORMAT,
            "classes": list(self.classes),
            "images": {"count": self.count, "sha256": self.fingerprint},
            "head": self.head,
            "rounds": [asdict(entry) for entry in self.committed],
        }
        return json.dumps({**content, "sha256": digest(content)}, indent=1, ensure_ascii=False) + "\n"

    def check_classes(self, folder: Path, classes: Sequence[str]) -> None:
        """Raise ``UserError`` unless the store holds labels of these classes."""
        given = tuple(classes)
        if given == self.classes:
            return
        if len(given) != len(self.classes):
            difference = f"{len(self.classes)} classes there, {len(given)} here"
        else:
            index = next(i for i, name in enumerate(given) if name != self.classes[i])
            difference = f"class {index} is {self.classes[index]!r} there, {given[index]!r} here"
        raise UserError(
            f"label store {folder} was made with other classes ({difference}): choose another output folder"
        )

    def check_images(self, folder: Path, images: Mapping[str, tuple[int, int]]) -> None:
        """Raise ``UserError`` unless the store holds labels of these images."""
        if fingerprint(images) == self.fingerprint:
            return
        difference = "other image ids or sizes"
        if len(images) != self.count:
            difference = f"{self.count} images there, {len(images)} here"
        raise UserError(f"label store {folder} was made with other data ({difference}): choose another output folder")


def digest(content: Mapping[str, object]) -> str:
    """SHA-256 of a manifest's content: a flipped bit must not become another number of pixels."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fingerprint(images: Mapping[str, tuple[int, int]]) -> str:
    """SHA-256 of image ids with their ``(H, W)``, whatever their order.

    >>> fingerprint({"a": (1, 2), "b": (3, 4)}) == fingerprint({"b": (3, 4), "a": (1, 2)})
    True
    """
    entries = sorted((name, int(height), int(width)) for name, (height, width) in images.items())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
