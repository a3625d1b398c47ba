"""Reject answers that turned out wrong: the history keeps them, and no later round uses them again."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ripu_lightning.errors import UserError
from ripu_lightning.labels.answers import NOT_QUERIED, VOID, Answers, patches_of, query_keys
from ripu_lightning.labels.committed_round import open_round
from ripu_lightning.labels.manifest import Manifest, changing, write_manifest
from ripu_lightning.labels.round import Round
from ripu_lightning.labels.round_file import RoundFile, write_round

_NOTE = "nothing was changed"
_SHOWN = 10
"""Queries or images that an error lists."""


class Rejection(NamedTuple):
    """What :func:`reject_answers` did.

    Attributes:
        round: the round whose answers were rejected.
        images: number of its images with a rejected answer.
        queries: number of its rejected answers.
        copies: number of other rounds that used some of these answers again, where they are rejected too.
        again: the round whose queries the run's next round repeats; None where all these rounds were inactive.
        dropped: number of the round that waited for answers after the active ones; 0 where none did, or it still does.
        damaged: a line for each round that could not be searched for copies.
    """

    round: Round
    images: int
    queries: int
    copies: int
    again: Round | None
    dropped: int
    damaged: list[str]


def reject_answers(
    folder: str | os.PathLike[str], to: int | str, images: Sequence[str] = (), queries: Sequence[int] = ()
) -> Rejection:
    """Reject answers of a round. Where it is active, it becomes inactive with all rounds after it.

    The queries of that round are kept as those of the next one, so that nothing is scored again: the rejected ones go
    to the annotator, and the others get their old answers.

    Args:
        folder: of the store.
        to: number of an active round, or the first 6 or more digits of any round's ``sha256``.
        images: whose answers are rejected; () for those of all images.
        queries: numbers of the rejected queries of the one image, from 1, in the order of the round's file, which is
            that of their scores; () for all.

    Raises:
        UserError: no store, round, image or query of that name, a writer holds the store, or the disk refused.
    """
    path = Path(folder)
    with changing(path) as manifest:
        entry = manifest.find(to)
        if entry is None:
            raise UserError("round 0: rounds are numbered from 1; nothing can be rejected before the first")
        file = open_round(path, entry, manifest)
        chosen = _choose(file, entry, images, queries)
        copies, damaged = _find_copies(path, manifest, entry, {name: answers for name, (answers, _) in chosen.items()})
        rejected = {entry.sha256: {name: numbers for name, (_, numbers) in chosen.items()}, **copies}
        changed = manifest.rejecting(rejected)
        again = next((each for each in manifest.rounds if each.sha256 in rejected), None)
        if again is not None:
            _keep_queries(path / changed.pending_file(), open_round(path, again, manifest), manifest)
        write_manifest(path, changed, _NOTE)
    count = sum(len(answers) for answers, _ in chosen.values())
    waited = again is not None and (path / manifest.pending_file()).is_file()
    return Rejection(entry, len(chosen), count, len(copies), again, len(manifest.rounds) + 1 if waited else 0, damaged)


def _choose(
    file: RoundFile, entry: Round, images: Sequence[str], queries: Sequence[int]
) -> dict[str, tuple[Answers, tuple[int, ...]]]:
    """For each image its rejected answers and their numbers; () where all of the image are."""
    where = f"round {entry.number} ({entry.id})"
    if queries and len(images) != 1:
        raise UserError(f"--query: numbers the queries of one image, but {len(images)} are given; add --image ID")
    for image_id in images:
        if image_id not in file.images:
            raise UserError(f"--image: {where} has no answers about {image_id!r}; it has {_listed(file.images)}")
    chosen = {}
    for image_id in dict.fromkeys(images or file.images):
        answers = _read(file, image_id)
        wrong = [number for number in queries if not 1 <= number <= len(answers)]
        if wrong:
            places = [
                f"{k} at row {row}, column {column}" for k, (row, column) in enumerate(answers.centres.tolist(), 1)
            ]
            raise UserError(f"--query: {where} has no query {wrong[0]} of {image_id!r}; it has {_listed(places)}")
        numbers = tuple(sorted(set(queries)))
        chosen[image_id] = (_rows(answers, numbers) if numbers else answers, numbers)
    if not chosen:
        raise UserError(f"{where} has no answers to reject")
    return chosen


def _find_copies(
    folder: Path, manifest: Manifest, rejected: Round, chosen: dict[str, Answers]
) -> tuple[dict[str, dict[str, tuple[int, ...]]], list[str]]:
    """Equal answers to equal queries in other rounds: an answer that was used again is wrong there too."""
    copies: dict[str, dict[str, tuple[int, ...]]] = {}
    damaged = []
    for entry in manifest.committed:
        if entry == rejected:
            continue
        try:
            file = open_round(folder, entry, manifest)
            for image_id in chosen.keys() & set(file.images):
                wrong, answers = _contents(chosen[image_id]), _contents(_read(file, image_id))
                numbers = tuple(number for number, each in enumerate(answers, start=1) if each in wrong)
                if numbers:
                    copies.setdefault(entry.sha256, {})[image_id] = numbers
        except UserError as error:
            damaged.append(str(error))
    return copies, damaged


def _keep_queries(path: Path, file: RoundFile, manifest: Manifest) -> None:
    """Write a round's queries as those that wait for answers."""

    def unanswered(answers: Answers) -> Answers:
        values = np.where(answers.values == NOT_QUERIED, NOT_QUERIED, VOID).astype(np.uint8)
        return Answers(answers.image_id, answers.centres, answers.boxes, values, answers.scores)

    queries = (unanswered(_read(file, image_id)) for image_id in file.images)
    write_round(path, queries, manifest.images, 0, _NOTE, None)


def _contents(answers: Answers) -> list[tuple[tuple[bytes, bytes], bytes]]:
    keys = query_keys(answers.boxes, answers.values != NOT_QUERIED)
    patches = patches_of(answers.values, answers.boxes)
    return [(key, patch.tobytes()) for key, patch in zip(keys, patches, strict=True)]


def _rows(answers: Answers, numbers: tuple[int, ...]) -> Answers:
    rows = np.array(numbers) - 1
    values = np.concatenate([patches_of(answers.values, answers.boxes)[row] for row in rows])
    return Answers(answers.image_id, answers.centres[rows], answers.boxes[rows], values, answers.scores[rows])


def _read(file: RoundFile, image_id: str) -> Answers:
    found = file.read(image_id)
    assert found is not None, image_id
    return found[0]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
