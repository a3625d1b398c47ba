"""The manifest of a label store: whose labels these are, all rounds ever committed, and which of them are active."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, first_line, replacing, require_plain_file
from ripu_lightning.labels.answers import NOT_QUERIED
from ripu_lightning.labels.round import LARGEST, Round, is_sha256

NAME = "manifest.json"
FORMAT = 2
_KEYS = {"format", "classes", "images", "head", "rounds", "sha256"}


@dataclass(frozen=True)
class Manifest:
    """Identity of the data, and a tree of rounds: the rounds on the path from its root to the head are active.

    Args:
        classes: class names by index.
        count: number of images.
        fingerprint: SHA-256 of the sorted image ids with their sizes, see :func:`fingerprint`.
        committed: all rounds ever committed, in the order of their commits; a parent comes before its children.
        head: ``sha256`` of the last active round; None where no round is active.

    Raises:
        ValueError: the rounds form no such tree, or a value is outside its range.
    """

    classes: tuple[str, ...]
    count: int
    fingerprint: str
    committed: tuple[Round, ...] = ()
    head: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.classes) <= NOT_QUERIED:
            raise ValueError(f"{len(self.classes)} classes; a label store holds 1 to {NOT_QUERIED}")
        if not 0 <= self.count < LARGEST or not is_sha256(self.fingerprint):
            raise ValueError(f"impossible images: {self.count!r}, {self.fingerprint!r}")
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
        """The active rounds, numbered 1, 2, 3, ..."""
        known = {entry.sha256: entry for entry in self.committed}
        chain, at = [], self.head
        while at is not None:
            chain.append(known[at])
            at = known[at].parent
        return tuple(reversed(chain))

    @cached_property
    def inactive(self) -> tuple[Round, ...]:
        """The inactive rounds, in the order of their commits."""
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
        """``entry`` committed and active."""
        return replace(self, committed=(*self.committed, entry), head=entry.sha256)

    def at(self, to: int | str) -> "Manifest":
        """Another head, and nothing else.

        Args:
            to: number of an active round (0 for none), or the first 6 or more digits of any round's ``sha256``.

        Raises:
            UserError: no such round, or more than one.
        """
        if isinstance(to, int) or re.fullmatch(r"[0-9]{1,5}", to):
            if not 0 <= int(to) <= len(self.rounds):
                raise UserError(
                    f"round {to}: the active rounds are numbered 0 (none) to {len(self.rounds)}; give another round by "
                    "the first 6 digits of its id, which ripu-labels list shows"
                )
            return replace(self, head=self.rounds[int(to) - 1].sha256 if int(to) else None)
        if not re.fullmatch(r"[0-9a-f]{6,64}", to):
            raise UserError(f"round {to!r}: expected a round's number, or the first 6 or more digits of its id")
        found = [entry.sha256 for entry in self.committed if entry.sha256.startswith(to)]
        if len(found) != 1:
            raise UserError(f"round {to}: {len(found) or 'no'} rounds' ids begin so; ripu-labels list shows them")
        return replace(self, head=found[0])

    def check_classes(self, folder: Path, classes: Sequence[str]) -> None:
        """Raise ``UserError`` unless the store holds labels of these classes."""
        given, difference = tuple(classes), f"{len(self.classes)} classes there, {len(classes)} here"
        if given == self.classes:
            return
        if len(given) == len(self.classes):
            index = next(i for i, name in enumerate(given) if name != self.classes[i])
            difference = f"class {index} is {self.classes[index]!r} there, {given[index]!r} here"
        raise UserError(
            f"label store {folder} was made with other classes ({difference}): choose another output folder"
        )

    def check_images(self, folder: Path, images: Mapping[str, tuple[int, int]]) -> None:
        """Raise ``UserError`` unless the store holds labels of these images."""
        if fingerprint(images) != self.fingerprint:
            sizes = f"{self.count} images there, {len(images)} here"
            difference = "other image ids or sizes" if len(images) == self.count else sizes
            raise UserError(
                f"label store {folder} was made with other data ({difference}): choose another output folder"
            )


def fingerprint(images: Mapping[str, tuple[int, int]]) -> str:
    """SHA-256 of image ids with their ``(H, W)``, whatever their order.

    >>> fingerprint({"a": (1, 2), "b": (3, 4)}) == fingerprint({"b": (3, 4), "a": (1, 2)})
    True
    """
    entries = sorted((name, int(height), int(width)) for name, (height, width) in images.items())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest, note: str) -> None:
    """Replace the manifest in ``folder`` atomically; ``note`` ends the line of a ``UserError``."""
    content = {
        "format": FORMAT,
        "classes": list(manifest.classes),
        "images": {"count": manifest.count, "sha256": manifest.fingerprint},
        "head": manifest.head,
        "rounds": [asdict(entry) for entry in manifest.committed],
    }
    text = json.dumps({**content, "sha256": _digest(content)}, indent=1, ensure_ascii=False) + "\n"
    with replacing(folder / NAME, note) as file, explained(folder / NAME, note):
        file.write(text.encode())


def read_manifest(
    folder: Path, classes: Sequence[str] | None = None, images: Mapping[str, tuple[int, int]] | None = None
) -> Manifest:
    """The manifest in ``folder``, known to be that of ``classes`` and ``images`` where these are given.

    Raises:
        UserError: there is none, it cannot be read, this version does not understand it, or it belongs to
            other classes or images.
    """
    path = folder / NAME
    try:
        require_plain_file(path)
        manifest = _parse(path, json.loads(path.read_text(encoding="utf-8")))
    except UserError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no label store in {folder} (no {NAME}): wrong folder?") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({first_line(error)}): restore it from a backup or choose another output folder"
        ) from error
    if classes is not None:
        manifest.check_classes(folder, classes)
    if images is not None:
        manifest.check_images(folder, images)
    return manifest


def _parse(path: Path, content: dict[str, Any]) -> Manifest:
    if content["format"] != FORMAT:
        given = repr(content["format"])[:40]
        raise UserError(
            f"{path}: label store format {given}, this version reads {FORMAT}; use the version of ripu-lightning that "
            "wrote it"
        )
    if set(content) != _KEYS or set(content["images"]) != {"count", "sha256"}:
        raise ValueError("its keys are not those of a manifest")
    if content.pop("sha256") != _digest(content):
        raise ValueError("its content does not match its SHA-256")
    classes, images, head = content["classes"], content["images"], content["head"]
    texts = [*classes, images["sha256"], *([] if head is None else [head])]
    if type(classes) is not list or type(images["count"]) is not int or any(type(text) is not str for text in texts):
        raise ValueError("a value is of the wrong type")
    "".join(texts).encode()  # half a surrogate pair can neither be written nor printed
    rounds = tuple(Round(**entry) for entry in content["rounds"])
    return Manifest(tuple(classes), images["count"], images["sha256"], rounds, head)


def _digest(content: Mapping[str, object]) -> str:
    """SHA-256 of a manifest's content: a flipped bit must not become another number of pixels."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
