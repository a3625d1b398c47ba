"""The manifest of a label store: whose labels these are, all rounds ever committed, and which of them are active."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError
from ripu_lightning.files import FolderLock, explained, first_line, replacing, require_plain_file
from ripu_lightning.labels.round import Round

NAME = "manifest.json"
FORMAT = 3
_KEYS = {"format", "classes", "images", "head", "rounds", "rejected", "skipped", "sha256"}
_LONGEST = 2**31  # of an image's sides: the round files hold them in 32 bits

Classes = ClassMap | Sequence[str]
"""A class map; or the names of its classes, whose file ids are then unknown."""
Images = Mapping[str, tuple[int, int]]
"""``(H, W)`` of every image by its id."""
Rejected = Mapping[str, Mapping[str, tuple[int, ...]]]
"""``sha256`` of a round -> id of an image -> numbers of its rejected queries, from 1; () where all are."""


@dataclass(frozen=True)
class Manifest:
    """Identity of the data, and a tree of rounds: the rounds on the path from its root to the head are active.

    Args:
        class_map: names, colours and file ids of the classes, by index.
        images: ``(H, W)`` of every image that may be queried, by its id.
        committed: all rounds ever committed, in the order of their commits; a parent comes before its children.
        head: ``sha256`` of the last active round; None where no round is active.
        rejected: answers that are never used again, all of inactive rounds.
        skipped: ids of the images that are never queried again.

    Raises:
        ValueError: the rounds form no such tree, or a value is outside its range.
    """

    class_map: ClassMap
    images: Images
    committed: tuple[Round, ...] = ()
    head: str | None = None
    rejected: Rejected = field(default_factory=dict)
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for image_id, size in self.images.items():
            if not all(0 < side < _LONGEST for side in size):
                raise ValueError(f"image {image_id!r} has an impossible size {size}")
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
        if not {entry.sha256 for entry in self.inactive} >= self.rejected.keys():
            raise ValueError("it has rejected answers of an active round, or of none")
        if any(min(numbers, default=1) < 1 for images in self.rejected.values() for numbers in images.values()):
            raise ValueError("a rejected query has an impossible number")
        if not self.images.keys() >= set(self.skipped) or len(set(self.skipped)) < len(self.skipped):
            raise ValueError("a skipped image is unknown or listed twice")

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
            UserError: no such round, or more than one, or answers of it or of a round before it were rejected.
        """
        entry = self.find(to)
        chain = replace(self, head=entry.sha256 if entry else None, rejected={})
        for active in chain.rounds:
            if active.sha256 in self.rejected:
                raise UserError(
                    f"round {active.number} ({active.id}): answers of it were rejected, so that it cannot be active "
                    "again; start the run, which queries them again"
                )
        return replace(chain, rejected=self.rejected)

    def find(self, to: int | str) -> Round | None:
        """A round by the number of an active one (0: None), or by the first 6 or more digits of its ``sha256``.

        Raises:
            UserError: no such round, or more than one.
        """
        if isinstance(to, int) or re.fullmatch(r"[0-9]{1,5}", to):
            if not 0 <= int(to) <= len(self.rounds):
                raise UserError(
                    f"round {to}: the active rounds are numbered 0 (none) to {len(self.rounds)}; give another round by "
                    "the first 6 digits of its id, which ripu-labels list shows"
                )
            return self.rounds[int(to) - 1] if int(to) else None
        if not re.fullmatch(r"[0-9a-f]{6,64}", to):
            raise UserError(f"round {to!r}: expected a round's number, or the first 6 or more digits of its id")
        found = [entry for entry in self.committed if entry.sha256.startswith(to)]
        if len(found) != 1:
            raise UserError(f"round {to}: {len(found) or 'no'} rounds' ids begin so; ripu-labels list shows them")
        return found[0]

    def rejected_rows(self, entry: Round, image_id: str, count: int) -> npt.NDArray[np.bool_]:
        """Which of the ``count`` answers of a round about one image were rejected, ``(count,)``."""
        numbers = self.rejected.get(entry.sha256, {}).get(image_id)
        if numbers is None:
            return np.zeros(count, dtype=np.bool_)
        return np.isin(np.arange(1, count + 1), numbers) if numbers else np.ones(count, dtype=np.bool_)

    def rejecting(self, rejected: Rejected) -> "Manifest":
        """These answers rejected too; the head moves before the first active round that holds one of them."""
        merged = {sha256: dict(images) for sha256, images in self.rejected.items()}
        for sha256, images in rejected.items():
            known = merged.setdefault(sha256, {})
            for image_id, numbers in images.items():
                before = known.get(image_id, numbers)
                known[image_id] = tuple(sorted({*before, *numbers})) if before and numbers else ()
        first = next((entry for entry in self.rounds if entry.sha256 in rejected), None)
        return replace(self, head=first.parent if first else self.head, rejected=merged)

    def pending_file(self) -> str:
        """The name of the next round's queries while they wait for answers.

        It says which round they follow: after a roll-back they would belong to another history.
        """
        after = f"_after_{self.rounds[-1].id}" if self.rounds else ""
        return f"pending_{len(self.rounds) + 1:03d}{after}.parquet"

    def check_classes(self, folder: Path, classes: Classes) -> None:
        """Raise ``UserError`` unless the store holds labels of these classes, see :meth:`ClassMap.difference`.

        Args:
            folder: of the store, for the error.
            classes: where they are a class map, its file ids must be those of the store too.
        """
        difference = self.class_map.difference(classes)
        if difference:
            raise UserError(
                f"label store {folder} was made with other classes ({difference}): give the class map that it was made "
                "with, or choose another output folder"
            )

    def check_images(self, folder: Path, images: Images, grown: bool = False) -> None:
        """Raise ``UserError`` unless the store holds labels of these images; with ``grown`` there may be new ones."""
        given = {name: (size[0], size[1]) for name, size in images.items()}
        difference, fix = _first_difference(self.images, given), "give the images that it was made with"
        if not difference and len(given) > len(self.images) and not grown:
            new = [name for name in given if name not in self.images]
            difference = f"image {new[0]!r} is not there; {len(new)} new"
            fix = "a run takes new images into its pool with extend_pool=true"
        if difference:
            raise UserError(
                f"label store {folder} was made with other images ({difference}): {fix}, or choose another output "
                "folder"
            )


def _first_difference(ours: Images, given: Images) -> str:
    """The first image that is missing or has another size; empty where there is none."""
    for name, (height, width) in ours.items():
        if name not in given:
            return f"image {name!r} is missing here"
        if given[name] != (height, width):
            return f"image {name!r} is {height} x {width} there, {given[name][0]} x {given[name][1]} here"
    return ""


def write_manifest(folder: Path, manifest: Manifest, note: str) -> None:
    """Replace the manifest in ``folder`` atomically; ``note`` ends the line of a ``UserError``."""
    content = {
        "format": FORMAT,
        "classes": manifest.class_map.as_dict(),
        "images": [[name, *size] for name, size in manifest.images.items()],
        "head": manifest.head,
        "rounds": [asdict(entry) for entry in manifest.committed],
        "rejected": {
            sha256: {image_id: list(numbers) for image_id, numbers in images.items()}
            for sha256, images in manifest.rejected.items()
        },
        "skipped": list(manifest.skipped),
    }
    text = json.dumps({**content, "sha256": _digest(content)}, indent=1, ensure_ascii=False) + "\n"
    with replacing(folder / NAME, note) as file, explained(folder / NAME, note):
        file.write(text.encode())


def read_manifest(folder: Path, classes: Classes | None = None, images: Images | None = None) -> Manifest:
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


@contextmanager
def changing(folder: Path, classes: Classes | None = None) -> Iterator[Manifest]:
    """The manifest in ``folder``, which nobody else changes during the block.

    Raises:
        UserError: as :func:`read_manifest`, or a writer holds the store.
    """
    read_manifest(folder)  # or the lock would be the first file of a store that does not exist
    lock = FolderLock(folder)
    try:
        yield read_manifest(folder, classes)
    finally:
        lock.release()


def _parse(path: Path, content: dict[str, Any]) -> Manifest:
    if content["format"] != FORMAT:
        given = repr(content["format"])[:40]
        raise UserError(
            f"{path}: label store format {given}, this version reads {FORMAT}; use the version of ripu-lightning that "
            "wrote it"
        )
    if set(content) != _KEYS:
        raise ValueError("its keys are not those of a manifest")
    if content.pop("sha256") != _digest(content):
        raise ValueError("its content does not match its SHA-256")
    class_map = _parse_classes(content["classes"])
    rounds = tuple(Round(**entry) for entry in content["rounds"])
    images, rejected = _parse_images(content["images"]), _parse_rejected(content["rejected"])
    if type(content["skipped"]) is not list:
        raise ValueError("its skipped images are no list")
    return Manifest(class_map, images, rounds, content["head"], rejected, tuple(content["skipped"]))


def _parse_classes(content: Any) -> ClassMap:
    try:
        classes = ClassMap.from_dict(content)
    except UserError as error:  # such a manifest is damaged as any other
        raise ValueError(str(error)) from None
    if classes.as_dict() != content:
        raise ValueError("its classes have a value of the wrong type")
    return classes


def _parse_images(content: Any) -> dict[str, tuple[int, int]]:
    if type(content) is not list:
        raise ValueError("its images are no list")
    images = {name: (height, width) for name, height, width in content}
    if len(images) != len(content):
        raise ValueError("an image is listed twice")
    for name, size in images.items():
        if type(name) is not str or any(type(side) is not int for side in size):
            raise ValueError("an image has a value of the wrong type")
        name.encode()  # half a surrogate pair can neither be written nor printed
    return images


def _parse_rejected(content: Any) -> Rejected:
    rejected = {
        sha256: {image_id: tuple(numbers) for image_id, numbers in images.items()} for sha256, images in content.items()
    }
    if any(type(n) is not int for images in rejected.values() for numbers in images.values() for n in numbers):
        raise ValueError("a rejected query has a number of the wrong type")
    return rejected


def _digest(content: Mapping[str, object]) -> str:
    """SHA-256 of a manifest's content: a flipped bit must not become another number of pixels."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
