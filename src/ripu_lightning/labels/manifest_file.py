"""``manifest.json``: replaced atomically, and read with nothing in it believed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, first_line, replacing, require_plain_file
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.manifest import FORMAT, NAME, Manifest, digest, fingerprint

LARGEST_FILE = 16 << 20
"""Bytes; enough for 30,000 rounds. JSON can take a hundred times its size in memory."""
_KEYS = {"format", "classes", "images", "head", "rounds", "sha256"}


def create_manifest(folder: Path, classes: Sequence[str], images: Mapping[str, tuple[int, int]]) -> None:
    """Write the manifest of a new, empty store.

    Raises:
        ValueError: more classes than a byte can name beside "void" and "not asked", or none.
        UserError: the folder holds rounds whose manifest was lost, or cannot be written.
    """
    manifest = Manifest(tuple(classes), len(images), fingerprint(images))
    left = sorted(folder.glob("round_*.parquet"))
    if left:
        # Rounds are only written once a manifest is there: these are labels that somebody paid for.
        raise UserError(f"{left[0]} exists without {NAME}: restore {NAME} or choose another output folder")
    write_manifest(folder, manifest, "nothing was bought before")


def write_manifest(folder: Path, manifest: Manifest, note: str) -> None:
    """Put ``manifest`` in the place of the present one; ``note`` ends the line of a ``UserError``."""
    content = manifest.to_json().encode()
    if len(content) > LARGEST_FILE:
        most = f"{LARGEST_FILE >> 20} MB"
        raise UserError(f"{folder / NAME}: holds no more rounds than fit {most}; go on in another folder; {note}")
    with replacing(folder / NAME, note) as file, explained(folder / NAME, note):
        file.write(content)


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
        require_plain_file(path)
        with open(path, "rb") as file:
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"more than {LARGEST_FILE >> 20} MB")
        return _parse(json.loads(content.decode()))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no label store in {path.parent} (no {NAME}): wrong folder?") from None
    except UnsupportedFormat as error:
        raise UserError(f"{path}: {error}; use the version of ripu-lightning that wrote it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is damaged ({first_line(error)}): restore it from a backup or choose another output folder"
        ) from error


class UnsupportedFormat(Exception):
    """A manifest of another format version."""


def _parse(content: dict[str, Any]) -> Manifest:
    if content["format"] != FORMAT:
        given = repr(content["format"])[:40]
        raise UnsupportedFormat(f"label store format {given}, this version reads {FORMAT}")
    if set(content) != _KEYS or set(content["images"]) != {"count", "sha256"}:
        raise ValueError("its keys are not those of a manifest")
    if content.pop("sha256") != digest(content):
        raise ValueError("its SHA-256 is not the one it tells")
    classes, images, head = content["classes"], content["images"], content["head"]
    texts = [*classes, images["sha256"], *([] if head is None else [head])]
    if type(classes) is not list or type(images["count"]) is not int or any(type(text) is not str for text in texts):
        raise ValueError("a value is of the wrong type")
    "".join(texts).encode()  # half a surrogate pair can neither be written nor printed
    return Manifest(
        classes=tuple(classes),
        count=images["count"],
        fingerprint=images["sha256"],
        committed=tuple(Round(**entry) for entry in content["rounds"]),
        head=head,
    )
