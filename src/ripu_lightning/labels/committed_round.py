"""Opening the file of a committed round: nothing of it is read before its SHA-256 is that of the manifest."""

import shlex
from pathlib import Path

from ripu_lightning.files import require_plain_file, sha256_of
from ripu_lightning.labels.manifest import Manifest
from ripu_lightning.labels.round import Round
from ripu_lightning.labels.round_file import GroupCache, RoundFile, readable


def open_round(folder: Path, entry: Round, manifest: Manifest, cache: GroupCache | None = None) -> RoundFile:
    """The file of a committed round; Arrow reads nothing of it before its SHA-256 is that of the manifest.

    Raises:
        UserError: it is missing or damaged; for an active round, the line says how to continue without it.
    """
    path, fix = folder / entry.file, "restore it from a backup"
    if entry in manifest.rounds:
        fix += f", or continue without it: ripu-labels rollback {shlex.quote(str(folder))} {entry.number - 1}"
    with readable(path, fix):
        require_plain_file(path)
        if sha256_of(path) != entry.sha256:
            raise ValueError("its SHA-256 is not the manifest's")
    return RoundFile(path, len(manifest.class_map), manifest.images, fix, entry, cache)
