"""Answers that are there already: what a round that was set aside has answered is not asked again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ripu_lightning.annotation.annotators import Annotator, Query
from ripu_lightning.labels import NOT_ASKED, Answers, LabelStore
from ripu_lightning.labels.answers import UInt8Array, box_sizes
from ripu_lightning.labels.reading import RoundFile

Known = dict[tuple[bytes, bytes], UInt8Array]
"""Box and asked pixels of a query -> its answer."""


def ask_or_recall(annotator: Annotator, store: LabelStore, queries: Sequence[Query]) -> Iterable[Answers]:
    """Answers to the queries of the next round; only what no round set aside has answered is asked of the annotator.

    A query is the same if its image, its box and its asked pixels are; where several rounds have answered it, the one
    committed last counts. Centres and scores are those of the queries. Images come in the order of the queries.

    Args:
        annotator: see :class:`Annotator`; not asked at all where nothing is left to ask.
        store: where the answers will be committed.
        queries: one for each image, in the order of the pool.

    Raises:
        ValueError: the annotator answered other boxes than it was asked.
        UserError: a file of a round set aside can not be read. Whatever the annotator raises passes through.
    """
    number, files = len(store.rounds) + 1, [file for _, file in store.open_set_aside()]
    if not files:
        return annotator.ask(number, queries)
    left = [_without(query, _recall(files, query)) for query in queries]
    asked = [query for query in left if query is not None]
    return _merge(queries, left, annotator.ask(number, asked) if asked else (), files)


def _merge(
    queries: Sequence[Query], left: Sequence[Query | None], answers: Iterable[Answers], files: Sequence[RoundFile]
) -> Iterator[Answers]:
    """The annotator's answers with the recalled ones among them, image by image as they come."""
    place = {query.image_id: position for position, query in enumerate(queries)}
    recalled = iter([position for position, query in enumerate(left) if query is None])
    following = next(recalled, None)
    for given in answers:
        position = place.get(given.image_id, -1)
        while following is not None and following < position:
            yield _fill(queries[following], None, files)
            following = next(recalled, None)
        asked = left[position]
        if position < 0 or asked is None or not np.array_equal(given.boxes, asked.boxes):
            raise ValueError(f"{given.image_id}: the annotator answered other boxes than it was asked")
        yield _fill(queries[position], given, files)
    while following is not None:
        yield _fill(queries[following], None, files)
        following = next(recalled, None)


def _recall(files: Sequence[RoundFile], query: Query) -> list[UInt8Array | None]:
    """What is known of each query of one image."""
    known: Known = {}
    for file in files:  # in the order of their commits: the last one counts
        found = file.read(query.image_id)
        if found is not None:
            patches = _parts(found[0].values, found[0].boxes)
            for box, patch in zip(found[0].boxes, patches, strict=True):
                known[box.tobytes(), (patch != NOT_ASKED).tobytes()] = patch
    if not known:
        return [None] * len(query.centres)
    inside = query.inside if query.inside is not None else np.ones(int(box_sizes(query.boxes).sum()), dtype=np.bool_)
    asked = _parts(inside.view(np.uint8), query.boxes)
    return [known.get((box.tobytes(), part.tobytes())) for box, part in zip(query.boxes, asked, strict=True)]


def _without(query: Query, known: Sequence[UInt8Array | None]) -> Query | None:
    """What is left to ask of an image: the query itself where nothing is known, None where all is."""
    left = np.array([answer is None for answer in known], dtype=np.bool_)
    if not left.any():
        return None
    if left.all():
        return query
    inside = query.inside
    if inside is not None:
        inside = inside[np.repeat(left, box_sizes(query.boxes))]
    return replace(
        query, centres=query.centres[left], boxes=query.boxes[left], inside=inside, scores=query.scores[left]
    )


def _fill(query: Query, given: Answers | None, files: Sequence[RoundFile]) -> Answers:
    """All answers of one image, in the order of its query: the annotator's and those recalled."""
    known = _recall(files, query)
    fresh = iter(() if given is None else _parts(given.values, given.boxes))
    patches = [next(fresh) if answer is None else answer for answer in known]
    values = np.concatenate([np.empty(0, dtype=np.uint8), *patches])
    return Answers(query.image_id, query.centres, query.boxes, values, query.scores)


def _parts(values: UInt8Array, boxes: npt.NDArray[np.int32]) -> list[UInt8Array]:
    """The values of each box."""
    return np.split(values, np.cumsum(box_sizes(boxes))[:-1]) if len(boxes) else []
