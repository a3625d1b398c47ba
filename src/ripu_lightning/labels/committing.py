"""A round's way to the disk and back: what is checked before it is believed."""

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ripu_lightning.files import explained, replacing, require_plain_file, sha256_of
from ripu_lightning.labels.answers import NOT_ASKED, Answers
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.footer import GROUP_ROWS
from ripu_lightning.labels.groups import GroupCache, require_size
from ripu_lightning.labels.parquet import PAYLOAD, readable
from ripu_lightning.labels.reading import RoundFile
from ripu_lightning.labels.rounds import RoundWriter


def write_round(
    path: Path,
    answers: Iterable[Answers],
    images: Mapping[str, tuple[int, int]],
    classes: int,
    constants: Mapping[str, str],
    note: str,
) -> tuple[int, int, int]:
    """Write a round's file, wholly or not at all; returns its numbers of queries, pixels and void pixels.

    Args:
        path: the file to write.
        answers: one for each image of the round, written as they come.
        images: ``(H, W)`` of every image that may be asked about.
        classes: number of classes.
        constants: the round's ``strategy``, ``annotator`` and ``time``.
        note: ends the line of a ``UserError``.

    Raises:
        ValueError: answers that do not fit; the line names the image.
        UserError: the file cannot be written. Whatever ``answers`` raises passes through.
    """
    seen: set[str] = set()
    with replacing(path, note) as file:
        with explained(path, note):
            writer = RoundWriter(file, constants)
        try:
            for each in answers:
                size = _check(each, seen, images, classes)
                with explained(path, note):
                    writer.append(each, size)
            with explained(path, note):
                writer.close()
        except BaseException:
            writer.abandon()
            raise
    return writer.queries, writer.pixels, writer.void


def open_round(
    folder: Path,
    entry: Round,
    classes: int,
    images: Mapping[str, tuple[int, int]] | None,
    cache: GroupCache,
    in_force: bool = True,
) -> RoundFile:
    """The file of a round in the manifest, once it is known to be the one that was committed.

    Raises:
        UserError: it is missing or damaged; of a round in force, the line tells how to go on without it.
    """
    path = folder / entry.file
    mend = "restore it from a backup"
    if in_force:
        mend += f", or go on without it: ripu-labels rollback {shlex.quote(str(folder))} {entry.number - 1}"
    with readable(path, mend):
        require_plain_file(path)
        if sha256_of(path) != entry.sha256:
            raise ValueError("its SHA-256 is not the manifest's")
    return RoundFile(path, entry, classes, images, cache, mend)


def _check(answers: Answers, seen: set[str], images: Mapping[str, tuple[int, int]], classes: int) -> tuple[int, int]:
    """The image's ``(H, W)``, once its answers are known to fit and the image is new to the round."""
    name = answers.image_id
    if name not in images:
        raise ValueError(f"{name}: no image of this label store")
    if name in seen:
        raise ValueError(f"{name}: answered twice in one round; give all its answers at once")
    seen.add(name)
    height, width = size = images[name]
    require_size(name, size, len(answers))
    if len(answers) > GROUP_ROWS // 2 or answers.values.nbytes > PAYLOAD // 2:
        raise ValueError(f"{name}: {len(answers)} queries of {answers.values.nbytes} pixels are too many for one image")
    # int64: a corner near the end of int32 plus a side must not wrap around.
    corners, sides = answers.boxes[:, :2].astype(np.int64), answers.boxes[:, 2:]
    if (corners < 0).any() or (corners + sides > size).any():
        raise ValueError(f"{name}: a box leaves the image of {height} x {width} pixels")
    if (answers.centres < 0).any() or (answers.centres >= size).any():
        raise ValueError(f"{name}: a centre lies outside the image of {height} x {width} pixels")
    wrong = answers.values[(answers.values >= classes) & (answers.values < NOT_ASKED)]
    if len(wrong):
        raise ValueError(f"{name}: class index {wrong[0]}, but there are {classes} classes")
    return size
