"""Answers of inactive rounds are used again: a query that such a round answered does not go to the annotator."""

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ripu_lightning.annotation.annotators import Annotator, Query
from ripu_lightning.labels import NOT_QUERIED, Answers, LabelStore
from ripu_lightning.labels.answers import UInt8Array, box_sizes, patches_of, query_keys


class RoundAnswers(NamedTuple):
    """The answers of a round, and what a person should know about their origin.

    Attributes:
        answers: in the order of the queries, read as they are taken.
        note: lines for people; empty where nothing was known before.
    """

    answers: Iterable[Answers]
    note: str


def annotate_or_reuse(annotator: Annotator, store: LabelStore, queries: Sequence[Query]) -> RoundAnswers:
    """Answers to the queries of the next round; the annotator gets only those that no inactive round has answered.

    A query is the same if its image, its box and its queried pixels are. The last answer to it counts, unless that one
    was rejected. An image whose answers the annotator holds already (:meth:`FileAnnotator.held`) is read from there:
    they may have been corrected. Centres and scores are those of the queries.

    Queries about images that are skipped for good never go to the annotator: those without a known answer are left
    out. A partial annotator (see :class:`Annotator`) leaves some queries without an answer: those that no inactive
    round has answered are no part of the round either.

    Args:
        annotator: see :class:`Annotator`; not called at all where no query is left.
        store: where the answers will be committed.
        queries: one for each image, in the order of the pool; the annotator gets none without a region.

    Raises:
        ValueError: the annotator answered other boxes than those queried.
        UserError: a file of an inactive round cannot be read. Whatever the annotator raises passes through.
    """
    history, number, skipped = _History(store), len(store.rounds) + 1, store.manifest.skipped
    recalled = [history.recall(query) for query in queries]
    recalled = [found.only(~found.unknown) if found.query.image_id in skipped else found for found in recalled]
    recalled = [found for found in recalled if len(found.query.centres) or found.query.image_id not in skipped]
    held = None
    if history.used and hasattr(annotator, "held"):
        held = annotator.held(number, [found.query for found in recalled if found.query.image_id not in skipped])
    left = {found.query.image_id: query for found in recalled if (query := _left(found, held)) is not None}
    stream = annotator.annotate(number, list(left.values())) if left else ()
    notes = _note_of_history(store, number, recalled, left), _note_of_held(number, recalled, held or set())
    answers = _merge(recalled, left, stream, getattr(annotator, "partial", False))
    return RoundAnswers(answers, "\n".join(filter(None, notes)))


class _Recalled(NamedTuple):
    """The queries of one image, and what the history knows of each."""

    query: Query
    answers: list[UInt8Array | None]
    origins: list[str | None]  # id of the round whose answer counts
    rejected: list[int]  # how many answers were rejected

    @property
    def unknown(self) -> npt.NDArray[np.bool_]:
        """Which queries ``(n,)`` have no answer."""
        return np.array([origin is None for origin in self.origins], dtype=np.bool_)

    def only(self, rows: npt.NDArray[np.bool_]) -> "_Recalled":
        """Some of the queries."""
        if rows.all():
            return self
        query, rejected = self.query, list(compress(self.rejected, rows))
        kept = replace(
            query,
            centres=query.centres[rows],
            boxes=query.boxes[rows],
            inside=None if query.inside is None else query.inside[np.repeat(rows, box_sizes(query.boxes))],
            scores=query.scores[rows],
            rejected=sum(rejected),
        )
        return _Recalled(kept, list(compress(self.answers, rows)), list(compress(self.origins, rows)), rejected)


class _History:
    """The inactive rounds of a store, in the order of their commits."""

    def __init__(self, store: LabelStore) -> None:
        self._manifest, self._files = store.manifest, store.open_inactive()
        known = [entry for entry, _ in self._files]
        # What a damaged file's rejected answers were about is unknown: they count for all queries of their images.
        self._lost = [store.manifest.rejected.get(entry.sha256, {}) for entry in store.inactive if entry not in known]

    @property
    def used(self) -> bool:
        """Whether there is anything to recall."""
        return bool(self._files or self._lost)

    def recall(self, query: Query) -> _Recalled:
        """The last answer to each query of an image, unless it was rejected."""
        known: dict[tuple[bytes, bytes], tuple[UInt8Array, str]] = {}
        rejected: Counter[tuple[bytes, bytes]] = Counter()
        for entry, file in self._files:
            found = file.read(query.image_id)
            if found is None:
                continue
            boxes, values = found[0].boxes, found[0].values
            keys, patches = query_keys(boxes, values != NOT_QUERIED), patches_of(values, boxes)
            rows = self._manifest.rejected_rows(entry, query.image_id, len(keys)).tolist()
            for key, patch, wrong in zip(keys, patches, rows, strict=True):
                if wrong:
                    rejected[key] += 1
                    known.pop(key, None)  # what it had replaced is no better
                else:
                    known[key] = patch, entry.id
        lost = sum(query.image_id in images for images in self._lost)
        keys = query_keys(query.boxes, _inside(query)) if self.used else []
        answers = [known.get(key, (None, None)) for key in keys] or [(None, None)] * len(query.centres)
        counts = [rejected[key] + lost for key in keys] or [0] * len(query.centres)
        counted = replace(query, rejected=sum(counts)) if any(counts) else query
        return _Recalled(counted, [a for a, _ in answers], [origin for _, origin in answers], counts)


def _left(found: _Recalled, held: set[str] | None) -> Query | None:
    """What the annotator has to answer of an image, None for nothing; of one that it holds, everything."""
    unknown = found.unknown
    if unknown.size and held is not None and (found.query.image_id in held or unknown.any()):
        return found.query
    return found.only(unknown).query if unknown.any() else None


def _merge(
    recalled: Sequence[_Recalled], left: Mapping[str, Query], answers: Iterable[Answers], partial: bool
) -> Iterator[Answers]:
    """The annotator's answers and the known ones, image by image."""
    stream, early = iter(answers), dict[str, Answers]()
    for query, known, _, _ in recalled:
        asked, patches = left.get(query.image_id), known
        if asked is not None:
            while query.image_id not in early and (given := next(stream, None)) is not None:
                early[given.image_id] = given
            found = early.pop(query.image_id, None)
            fresh = None if found is None else _align(asked, found)
            if fresh is None or (not partial and any(each is None for each in fresh)):
                raise ValueError(f"{query.image_id}: the annotator answered other boxes than those queried")
            patches = _filled(known, fresh)
        rows = np.array([patch is not None for patch in patches], dtype=np.bool_)
        values = np.concatenate([np.empty(0, dtype=np.uint8), *(patch for patch in patches if patch is not None)])
        yield Answers(query.image_id, query.centres[rows], query.boxes[rows], values, query.scores[rows])
    for given in (*early.values(), *stream):  # taken to its end, where an annotator may say that it must be waited for
        raise ValueError(f"{given.image_id}: the annotator answered an image that was not queried, or one twice")


def _filled(known: Sequence[UInt8Array | None], fresh: Sequence[UInt8Array | None]) -> list[UInt8Array | None]:
    """The fresh answers to all queries, or to the unknown ones alone, in place of the known ones."""
    if len(fresh) == len(known):
        return [old if new is None else new for old, new in zip(known, fresh, strict=True)]
    rest = iter(fresh)
    return [next(rest) if old is None else old for old in known]


def _align(asked: Query, found: Answers) -> list[UInt8Array | None] | None:
    """The answer to each query, None where there is none; None for answers to other queries or in another order."""
    patches = iter(zip(found.boxes.tolist(), patches_of(found.values, found.boxes), strict=True))
    aligned: list[UInt8Array | None] = []
    given = next(patches, None)
    for box in asked.boxes.tolist():
        if given is not None and given[0] == box:
            aligned.append(given[1])
            given = next(patches, None)
        else:
            aligned.append(None)
    return aligned if given is None else None


def _note_of_history(store: LabelStore, number: int, recalled: Sequence[_Recalled], left: Mapping[str, Query]) -> str:
    """How many queries get an old answer, of which rounds, and how to have them answered again."""
    origins: Counter[str] = Counter()
    for found in recalled:
        asked = left.get(found.query.image_id)
        if asked is None or len(asked.centres) < len(found.query.centres):
            origins.update(origin for origin in found.origins if origin is not None)
    if not origins:
        return ""
    total = sum(len(found.query.centres) for found in recalled)
    rounds = " and ".join(f"{count} by round {origin}" for origin, count in origins.items())
    return (
        f"round {number}: {sum(origins.values())} of {total} queries keep the answers that inactive rounds gave them "
        f"({rounds}), {total - sum(origins.values())} go to the annotator; to have the old ones answered again: "
        f"ripu-labels reject {shlex.quote(str(store.folder))} --round {next(iter(origins))}"
    )


def _note_of_held(number: int, recalled: Sequence[_Recalled], held: set[str]) -> str:
    """That answers which the annotator holds count more than those of the history."""
    again = [found for found in recalled if found.query.image_id in held and any(found.origins)]
    if not again:
        return ""
    return (
        f"round {number}: the answers that the annotator has of {len(again)} images are read again, as they are; they "
        "count, and not those of inactive rounds"
    )


def _inside(query: Query) -> npt.NDArray[np.bool_]:
    return np.ones(int(box_sizes(query.boxes).sum()), dtype=np.bool_) if query.inside is None else query.inside
