"""Queries that wait for answers, on disk in the format of a round's file: they outlive the process that made them.

``patch`` holds 255 for a queried pixel and 254 for any other pixel of the box, so that the file reads as a round in
which every answer is void.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from ripu_lightning.annotation.annotators import Query
from ripu_lightning.labels import NOT_QUERIED, VOID, Answers
from ripu_lightning.labels.answers import box_sizes, query_keys
from ripu_lightning.labels.round_file import RoundFile, readable, write_round

_FIX = "restore it from a backup"


def write_queries(path: Path, queries: Sequence[Query], images: Mapping[str, tuple[int, int]]) -> None:
    """Write the file, wholly or not at all; an image without queries leaves no row.

    Args:
        path: the file.
        queries: one for each image.
        images: ``(H, W)`` of their images.

    Raises:
        UserError: the disk refused.
    """
    rejected = {query.image_id: query.rejected for query in queries if query.rejected}
    note = "the labels of earlier rounds are safe"
    write_round(path, map(_unanswered, queries), images, 0, note, None, json.dumps(rejected) if rejected else "")


def read_queries(path: Path, images: Mapping[str, tuple[int, int]]) -> list[Query]:
    """The queries of a file, in their order.

    Args:
        path: the file.
        images: ``(H, W)`` of the pool's images, in its order.

    Raises:
        UserError: the file is missing or damaged, or its queries are not about these images.
    """
    index = {image_id: position for position, image_id in enumerate(images)}
    queries = []
    for answers in _read(path, images):
        queried = answers.values != NOT_QUERIED
        inside = None if queried.all() else queried
        position = index[answers.image_id]
        queries.append(Query(position, answers.image_id, answers.centres, answers.boxes, inside, answers.scores))
    with readable(path, _FIX):
        if any(one.index > other.index for one, other in pairwise(queries)):
            raise ValueError("the images are not in the order of the pool")
    return queries


def holds_queries(path: Path, queries: Sequence[Query]) -> bool:
    """Whether a file of :func:`write_queries` asks for just these regions of each image, and has no rejected answers.

    Their order, centres and scores do not matter, nor do further images.

    Raises:
        UserError: the file is missing or damaged.
    """
    file = RoundFile(path, 0, None, _FIX)
    with readable(path, _FIX):
        rejected = json.loads(file.token or "{}")
        if not isinstance(rejected, dict):
            raise ValueError("its footer is not that of queries")
    for query in (each for each in queries if len(each.centres)):
        found = file.read(query.image_id)
        if found is None or rejected.get(query.image_id, 0) != query.rejected:
            return False
        if _regions(found[0]) != _regions(_unanswered(query)):
            return False
    return True


def queried_images(path: Path) -> list[str]:
    """Ids of the images of a file of :func:`write_queries`. Raises UserError where it is missing or damaged."""
    return RoundFile(path, 0, None, _FIX).images


def _read(path: Path, images: Mapping[str, tuple[int, int]]) -> list[Answers]:
    file = RoundFile(path, 0, images, _FIX)
    return [found[0] for image_id in file.images if (found := file.read(image_id)) is not None]


def _unanswered(query: Query) -> Answers:
    if query.inside is None:
        values = np.full(int(box_sizes(query.boxes).sum()), VOID, dtype=np.uint8)
    else:
        values = np.where(query.inside, VOID, NOT_QUERIED).astype(np.uint8)
    return Answers(query.image_id, query.centres, query.boxes, values, query.scores)


def _regions(answers: Answers) -> set[tuple[bytes, bytes]]:
    return set(query_keys(answers.boxes, answers.values != NOT_QUERIED))
