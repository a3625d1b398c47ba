"""Annotation by files: queries are written into a folder, and people or other programs put the answers there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from ripu_lightning.annotation.annotators import AnswersPending, ImagesById, Query
from ripu_lightning.annotation.export import export_round
from ripu_lightning.annotation.names import STATEMENTS
from ripu_lightning.annotation.painted import NOTHING, AnswerReader, PaintedPixels
from ripu_lightning.annotation.queries import holds_queries
from ripu_lightning.annotation.sources import AnswerSources
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_QUERIED, Answers
from ripu_lightning.labels.answers import box_sizes

_SHOWN = 5
"""Files that a line lists."""


class FileAnnotator:
    """Writes queries into ``<folder>/round_001/`` and reads ``<folder>/round_001/answers/ID.png``.

    These files are there from the start, as templates without a label; the README.txt of a round's folder explains
    them to people. Answers may also be in ``<folder>/round_001/answers.zip``. At the queried pixels they hold the file
    ids of the data set's class map (ignored ids mean void), or its colours. Pixels that still have the value of the
    template are waited for.

    Args:
        dataset: the target's training images; its labels are not read.
        folder: made if missing; of this run only.
    """

    name = "files"
    reads_truth = False

    def __init__(self, dataset: SegmentationDataset, folder: str | Path) -> None:
        self._images, self._folder = ImagesById("FileAnnotator", dataset), Path(folder)

    def check(self, image_sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> None:
        """See :class:`Annotator`."""
        self._images.check(image_sizes, class_names)

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """See :class:`Annotator`; each file is opened when its answers are taken.

        Raises:
            AnswersPending: answers are missing; raised at once where none can be there, else at the end.
            UserError: the folder holds the queries of another run, or answers that cannot be read.
        """
        queries = [query for query in queries if len(query.centres)]
        folder = self._folder / f"round_{round_number:03d}"
        if not folder.is_dir():
            export_round(folder, round_number, queries, self._images)
            if queries:
                raise _pending(folder, round_number, queries, {query.image_id: NOTHING for query in queries}, [])
        elif not holds_queries(folder / "queries.parquet", queries):
            raise UserError(
                f"{folder}: holds the queries of another run; choose another annotation folder or move this one away"
            )
        limits = {query.image_id: _most_bytes(self._images.size(query.image_id)) for query in queries}
        others = [image_id for image_id in self._images.dataset.ids if image_id not in limits]
        return self._read(folder, round_number, queries, AnswerSources(folder, limits, others))

    def _read(
        self, folder: Path, round_number: int, queries: Sequence[Query], sources: AnswerSources
    ) -> Iterator[Answers]:
        reader = AnswerReader(self._images.dataset.classes, str(folder / "README.txt"))
        missing: dict[str, PaintedPixels] = {}
        for query in queries:
            image_id = query.image_id
            size, painted = self._images.size(image_id), image_id in sources.painted
            found = reader.read_best(sources.of[image_id], query, size, painted)
            if found.unpainted:
                missing[image_id] = found
            elif not missing:  # else they are only counted
                yield _answers(query, found)
        if missing:
            raise _pending(folder, round_number, queries, missing, sources.strays)


def _answers(query: Query, found: PaintedPixels) -> Answers:
    values = np.full(int(box_sizes(query.boxes).sum()), NOT_QUERIED, dtype=np.uint8)
    values[slice(None) if query.inside is None else query.inside] = found.classes
    return Answers(query.image_id, query.centres, query.boxes, values, query.scores)


def _pending(
    folder: Path, number: int, queries: Sequence[Query], missing: Mapping[str, PaintedPixels], strays: Sequence[str]
) -> AnswersPending:
    partial, blank, untouched = list[str](), list[str](), list[str]()
    for image_id, found in missing.items():
        share = f"{image_id}.png: {found.unpainted} of {len(found.classes)} queried pixels"
        if found.blank is not None:
            blank.append(f"{share} hold {found.blank}")
        elif found.unpainted < len(found.classes):
            partial.append(f"{share} are left")
        else:
            untouched.append(image_id)
    parts = []
    if untouched:
        parts.append(f"{len(untouched)} have no answers yet (the first is {untouched[0]}.png)")
    if partial:
        parts.append(f"{len(partial)} are painted in part ({_shortened(partial)})")
    if blank:
        parts.append(
            f"{len(blank)} look unpainted, for all other pixels hold the same ({_shortened(blank)}; where that is "
            f"right, write the image's id into answers/{STATEMENTS})"
        )
    unused = f"; files that belong to no queried image: {_shortened(strays)}" if strays else ""
    regions = sum(len(query.centres) for query in queries)
    line = (
        f"round {number} waits for answers: {regions} regions in {len(queries)} images, of which {', '.join(parts)}; "
        f"put them into {folder / 'answers'}, see README.txt next to it, and run the same command again{unused}"
    )
    return AnswersPending(line if line.isprintable() else ascii(line)[1:-1])


def _shortened(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _most_bytes(size: tuple[int, int]) -> int:
    """What a PNG of eight bytes a pixel needs where nothing can be compressed, and a megabyte for notes in it."""
    height, width = size
    return height * (8 * width + 1) * 101 // 100 + 2**20
