"""The manifest of a label store: whose labels these are, and the only list of the rounds that exist."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ripu_lightning.errors import UserError
from ripu_lightning.labels.answers import NOT_ASKED
from ripu_lightning.labels.files import explained, replacing

NAME = "manifest.json"
FORMAT = 1


@dataclass(frozen=True)
class Round:
    """What the manifest says of one committed round.

    Args:
        number: counted from 1, without gaps.
        file: plain name of its Parquet file.
        sha256: of that file, hexadecimal.
        queries: number of queries.
        pixels: number of pixels asked (void answers included).
        void: number of pixels asked that the annotator could not name.
        strategy: what picked the queries.
        annotator: who answered.
        exclusion: radius of the square that became unavailable around each centre, in pixels.
        time: of the commit, UTC, ISO 8601.
    """

    number: int
    file: str
    sha256: str
    queries: int
    pixels: int
    void: int
    strategy: str
    annotator: str
    exclusion: int
    time: str

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if type(value) is not entry.type:
                raise ValueError(f"round {self.number!r}: {entry.name} is {value!r}")
        if min(self.queries, self.pixels, self.void, self.exclusion) < 0:
            raise ValueError(f"round {self.number}: a count is negative")
        # A name with a folder in it could lead the reader out of the store.
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", self.file):
            raise ValueError(f"round {self.number}: {self.file!r} is not a plain file name")


@dataclass(frozen=True)
class Manifest:
    """Identity of the data and the committed rounds.

    Args:
        classes: class names by index.
        count: number of images.
        fingerprint: SHA-256 of the sorted image ids with their sizes, see :func:`fingerprint`.
        rounds: the committed rounds in order.
    """

    classes: tuple[str, ...]
    count: int
    fingerprint: str
    rounds: tuple[Round, ...] = ()

    def __post_init__(self) -> None:
        if [entry.number for entry in self.rounds] != list(range(1, len(self.rounds) + 1)):
            raise ValueError("the rounds are not numbered 1, 2, 3, ...")

    def to_json(self) -> str:
        """The text of the manifest file."""
        content = {
            "format": FORMAT,
            "classes": list(self.classes),
            "images": {"count": self.count, "sha256": self.fingerprint},
            "rounds": [asdict(entry) for entry in self.rounds],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

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


def fingerprint(images: Mapping[str, tuple[int, int]]) -> str:
    """SHA-256 of image ids with their ``(H, W)``, whatever their order.

    >>> fingerprint({"a": (1, 2), "b": (3, 4)}) == fingerprint({"b": (3, 4), "a": (1, 2)})
    True
    """
    entries = sorted((name, int(height), int(width)) for name, (height, width) in images.items())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def create_manifest(folder: Path, classes: Sequence[str], images: Mapping[str, tuple[int, int]]) -> None:
    """Write the manifest of a new, empty store.

    Raises:
        ValueError: more classes than a byte can name beside "void" and "not asked", or none.
        UserError: the folder holds rounds whose manifest was lost, or cannot be written.
    """
    if not 1 <= len(classes) <= NOT_ASKED:
        raise ValueError(f"{len(classes)} classes; a label store holds 1 to {NOT_ASKED}")
    left = sorted(folder.glob("round_*.parquet"))
    if left:
        # Rounds are only written once a manifest is there: these are labels that somebody paid for.
        raise UserError(f"{left[0]} exists without {NAME}: restore {NAME} or choose another output folder")
    manifest = Manifest(tuple(classes), len(images), fingerprint(images))
    write_manifest(folder, manifest, "nothing was bought before")


def write_manifest(folder: Path, manifest: Manifest, note: str) -> None:
    """Put ``manifest`` in the place of the present one; ``note`` ends the line of a ``UserError``."""
    with replacing(folder / NAME, note) as file, explained(folder / NAME, note):
        file.write(manifest.to_json().encode())


def read_manifest(
    folder: Path, classes: Sequence[str] | None = None, images: Mapping[str, tuple[int, int]] | None = None
) -> Manifest:
    """The manifest in ``folder``, known to be that of ``classes`` and ``images`` where these are given.

    Raises:
        UserError: there is none, it cannot be read, this version does not understand it, or it belongs to
            other classes or images.
    """
    manifest = _load(folder / NAME)
    if classes is not None:
        manifest.check_classes(folder, classes)
    if images is not None:
        manifest.check_images(folder, images)
    return manifest


def _load(path: Path) -> Manifest:
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"no label store in {path.parent} (no {NAME}): wrong folder?") from None
    except UnsupportedFormat as error:
        raise UserError(f"{path}: {error}; use the version of ripu-lightning that wrote it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged ({reason}): restore it from a backup or choose another output folder"
        ) from error


class UnsupportedFormat(Exception):
    """A manifest of another format version."""


def _parse(content: Mapping[str, Any]) -> Manifest:
    if content["format"] != FORMAT:
        raise UnsupportedFormat(f"label store format {content['format']!r}, this version reads {FORMAT}")
    return Manifest(
        classes=tuple(str(name) for name in content["classes"]),
        count=int(content["images"]["count"]),
        fingerprint=str(content["images"]["sha256"]),
        rounds=tuple(Round(**entry) for entry in content["rounds"]),
    )
