"""Answers of inactive rounds are used again: a query that such a round answered does not go to the annotator."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ripu_lightning.annotation.annotators import Annotator, Query
from ripu_lightning.labels import NOT_QUERIED, Answers, LabelStore
from ripu_lightning.labels.answers import Int32Array, UInt8Array, box_sizes
from ripu_lightning.labels.round_file import RoundFile


def annotate_or_reuse(annotator: Annotator, store: LabelStore, queries: Sequence[Query]) -> Iterable[Answers]:
    """Answers to the queries of the next round; the annotator gets only those that no inactive round has answered.

    A query is the same if its image, its box and its queried pixels are; where several rounds have answered it, the
    one committed last counts. Centres and scores are those of the queries. Images come in the order of the queries.

    Args:
        annotator: see :class:`Annotator`; not called at all where no query is left.
        store: where the answers will be committed.
        queries: one for each image, in the order of the pool.

    Raises:
        ValueError: the annotator answered other boxes than those queried.
        UserError: a file of an inactive round cannot be read. Whatever the annotator raises passes through.
    """
    number, files = len(store.rounds) + 1, [file for _, file in store.open_inactive()]
    if not files:
        return annotator.annotate(number, queries)
    left = {}
    for query in queries:
        unknown = np.array([answer is None for answer in _known(files, query)], dtype=np.bool_)
        if unknown.any():
            left[query.image_id] = query if unknown.all() else _subset(query, unknown)
    return _merge(queries, left, annotator.annotate(number, list(left.values())) if left else (), files)


def _merge(
    queries: Sequence[Query], left: Mapping[str, Query], answers: Iterable[Answers], files: Sequence[RoundFile]
) -> Iterator[Answers]:
    """The annotator's answers and the known ones, image by image."""
    stream, early = iter(answers), dict[str, Answers]()
    for query in queries:
        fresh: Iterator[UInt8Array] = iter(())
        if query.image_id in left:
            while query.image_id not in early and (given := next(stream, None)) is not None:
                early[given.image_id] = given
            found = early.pop(query.image_id, None)
            if found is None or not np.array_equal(found.boxes, left[query.image_id].boxes):
                raise ValueError(f"{query.image_id}: the annotator answered other boxes than those queried")
            fresh = iter(_patches(found.values, found.boxes))
        patches = [next(fresh) if answer is None else answer for answer in _known(files, query)]
        values = np.concatenate([np.empty(0, dtype=np.uint8), *patches])
        yield Answers(query.image_id, query.centres, query.boxes, values, query.scores)


def _known(files: Sequence[RoundFile], query: Query) -> list[UInt8Array | None]:
    """The known answer to each query of one image, None where there is none."""
    known: dict[tuple[bytes, bytes], UInt8Array] = {}
    for file in files:  # in the order of their commits: the last one counts
        if (found := file.read(query.image_id)) is not None:
            for box, patch in zip(found[0].boxes, _patches(found[0].values, found[0].boxes), strict=True):
                known[box.tobytes(), (patch != NOT_QUERIED).tobytes()] = patch
    if not known:
        return [None] * len(query.centres)
    inside = np.ones(int(box_sizes(query.boxes).sum()), dtype=np.bool_) if query.inside is None else query.inside
    queried = _patches(inside.view(np.uint8), query.boxes)
    return [known.get((box.tobytes(), part.tobytes())) for box, part in zip(query.boxes, queried, strict=True)]


def _subset(query: Query, rows: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Query:
    inside = None if query.inside is None else query.inside[np.repeat(rows, box_sizes(query.boxes))]
    return replace(
        query, centres=query.centres[rows], boxes=query.boxes[rows], inside=inside, scores=query.scores[rows]
    )


def _patches(values: UInt8Array, boxes: Int32Array) -> list[UInt8Array]:
    """The values of each box."""
    return np.split(values, np.cumsum(box_sizes(boxes))[:-1]) if len(boxes) else []
