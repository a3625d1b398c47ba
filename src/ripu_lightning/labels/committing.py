"""A round's way to the disk and back: what is checked before it is believed."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from ripu_lightning.errors import UserError
from ripu_lightning.labels.answers import NOT_ASKED, Answers
from ripu_lightning.labels.files import explained, replacing, sha256_of
from ripu_lightning.labels.manifest import Round
from ripu_lightning.labels.rounds import RoundFile, RoundWriter

_MEND = "restore it from a backup or start again in another output folder"


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


def open_round(folder: Path, entry: Round) -> RoundFile:
    """The file of a round in the manifest, once it is known to be the one that was committed.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / entry.file
    try:
        if sha256_of(path) != entry.sha256:
            raise UserError(f"{path} is damaged (its SHA-256 is not the manifest's): {_MEND}")
        return RoundFile(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {_MEND}") from None
    except UserError:
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}): {_MEND}") from error


def _check(answers: Answers, seen: set[str], images: Mapping[str, tuple[int, int]], classes: int) -> tuple[int, int]:
    """The image's ``(H, W)``, once its answers are known to fit and the image is new to the round."""
    name = answers.image_id
    if name not in images:
        raise ValueError(f"{name}: no image of this label store")
    if name in seen:
        raise ValueError(f"{name}: answered twice in one round; give all its answers at once")
    seen.add(name)
    height, width = size = images[name]
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
