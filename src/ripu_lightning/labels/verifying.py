"""The state of every file of a label store, found by its hash and by reading it whole."""

import os
from pathlib import Path
from typing import NamedTuple

from ripu_lightning.errors import UserError
from ripu_lightning.labels.committing import open_round
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.groups import GroupCache
from ripu_lightning.labels.manifest import NAME
from ripu_lightning.labels.manifest_file import read_manifest

_OTHERS = {NAME, "lock"}


class FileState(NamedTuple):
    """A file's name, ``ok``, ``damaged``, ``missing``, ``asked`` or ``left over``, and what else there is to say."""

    name: str
    state: str
    about: str

    @property
    def lost(self) -> bool:
        """Whether something committed can not be read."""
        return self.state in {"damaged", "missing"}


def verify_store(folder: Path) -> list[FileState]:
    """The states of a store's files: the committed ones in the order of their commits, then all others.

    Raises:
        UserError: there is no store, or its manifest is damaged.
    """
    manifest = read_manifest(folder)
    force = set(manifest.rounds)
    states = [FileState(NAME, "ok", f"{len(force)} rounds in force, {len(manifest.set_aside)} set aside")]
    for entry in manifest.committed:
        place = f"round {entry.number} {entry.id}, {'in force' if entry in force else 'set aside'}"
        states.append(_verify_round(folder, entry, len(manifest.classes), place, entry in force))
    known = {entry.file for entry in manifest.committed} | _OTHERS
    return states + [_other(name) for name in sorted(set(os.listdir(folder)) - known)]


def _verify_round(folder: Path, entry: Round, classes: int, place: str, in_force: bool) -> FileState:
    try:
        open_round(folder, entry, classes, None, GroupCache(), in_force).tally()
    except UserError as error:
        state = "damaged" if os.path.lexists(folder / entry.file) else "missing"
        return FileState(entry.file, state, f"{place}: {error}")
    return FileState(entry.file, "ok", place)


def _other(name: str) -> FileState:
    if name.startswith("asked_") and name.endswith(".parquet"):
        return FileState(name, "asked", "questions that wait for answers, or waited")
    return FileState(name, "left over", "no part of the store")
