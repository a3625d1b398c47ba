"""Annotation by files: queries are written into a folder, and people or other programs put the answers there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from ripu_lightning.annotation.annotators import AnswersPending, ImagesById, Query
from ripu_lightning.annotation.answer_names import STATEMENTS
from ripu_lightning.annotation.answer_reader import NOTHING, UNPAINTED, AnswerReader, PaintedPixels
from ripu_lightning.annotation.answer_sources import AnswerSources
from ripu_lightning.annotation.export import export_round
from ripu_lightning.annotation.queries import holds_queries, queried_images
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import require_choice
from ripu_lightning.labels import NOT_QUERIED, Answers
from ripu_lightning.labels.answers import box_sizes

_SHOWN = 5
"""Files that a line lists."""


class FileAnnotator:
    """Writes queries into ``<folder>/round_001/`` and reads ``<folder>/round_001/answers/ID.png``.

    These files are there from the start, as templates without a label; the README.txt of a round's folder explains
    them to people. Answers may also be in ``<folder>/round_001/answers.zip``. At the queried pixels they hold the file
    ids of the data set's class map (ignored ids mean void), or its colours. Pixels that still have the value of the
    template are waited for. Where ``round_001`` holds other queries, or rejected answers to these, the folder is
    ``round_001_2``, and so on.

    Args:
        dataset: the target's training images; its labels are not read.
        folder: made if missing; of this run only.
        partial: give the answers that are there, as soon as there is one; the other queries stay without an answer.
    """

    name = "files"
    reads_truth = False

    def __init__(self, dataset: SegmentationDataset, folder: str | Path, partial: bool = False) -> None:
        require_choice("FileAnnotator", "partial", partial, (False, True))
        self._images, self._folder, self.partial = ImagesById("FileAnnotator", dataset), Path(folder), partial

    def check(self, image_sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> None:
        """See :class:`Annotator`."""
        self._images.check(image_sizes, class_names)

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """See :class:`Annotator`; each file is opened when its answers are taken.

        Raises:
            AnswersPending: answers are missing; raised at once where none can be there, else at the end.
            UserError: answers that cannot be read.
        """
        queries = [query for query in queries if len(query.centres)]
        folder = self._folder_of(round_number, queries)
        if not folder.is_dir():
            export_round(folder, round_number, queries, self._images)
            if queries:
                raise AnswersPending(
                    _waiting(folder, round_number, queries, {query.image_id: NOTHING for query in queries}, [])
                )
        return self._read(folder, round_number, queries, self._sources(folder))

    def held(self, round_number: int, queries: Sequence[Query]) -> set[str] | None:
        """Images whose answers are complete in the folder that was made for these queries; None where there is none.

        After a roll-back these count, and not what the label store has kept of them: they may have been corrected.
        """
        queries = [query for query in queries if len(query.centres)]
        folder = self._folder_of(round_number, queries)
        if not folder.is_dir():
            return None
        painted = self._painted(folder, queries, self._sources(folder))
        return {query.image_id for query, found in painted if not found.unpainted}

    def _folder_of(self, round_number: int, queries: Sequence[Query]) -> Path:
        """The folder of these queries, or a new one: other queries of the same round keep theirs."""
        name, again = f"round_{round_number:03d}", 2
        folder = self._folder / name
        while folder.is_dir():
            file = folder / "queries.parquet"
            if file.is_file() and holds_queries(file, queries):
                break
            folder, again = self._folder / f"{name}_{again}", again + 1
        return folder

    def _sources(self, folder: Path) -> AnswerSources:
        ids = queried_images(folder / "queries.parquet")
        limits = {image_id: _most_bytes(self._images.size(image_id)) for image_id in ids}
        return AnswerSources(folder, limits, [each for each in self._images.dataset.ids if each not in limits])

    def _painted(
        self, folder: Path, queries: Sequence[Query], sources: AnswerSources
    ) -> Iterator[tuple[Query, PaintedPixels]]:
        reader = AnswerReader(self._images.dataset.classes, str(folder / "README.txt"))
        for query in queries:
            size, painted = self._images.size(query.image_id), query.image_id in sources.painted
            yield query, reader.read_best(sources.of[query.image_id], query, size, painted)

    def _read(
        self, folder: Path, round_number: int, queries: Sequence[Query], sources: AnswerSources
    ) -> Iterator[Answers]:
        missing: dict[str, PaintedPixels] = {}
        answered = 0
        for query, found in self._painted(folder, queries, sources):
            if found.unpainted:
                missing[query.image_id] = found
            if self.partial or not missing:  # else they are only counted
                answers = _answers(query, found)
                answered += len(answers)
                yield answers
        if missing:
            if not (self.partial and answered):
                raise AnswersPending(_waiting(folder, round_number, queries, missing, sources.strays))
            lacking = f"{_lacking(queries, missing)}{_unused(sources.strays)}"
            rank_zero_warn(f"{folder}: the answers that are there are used (annotator.partial); {lacking}")


def _answers(query: Query, found: PaintedPixels) -> Answers:
    """The answers to those queries of an image that have no unpainted pixel."""
    if found.unpainted == len(found.classes):
        rows, values = np.zeros(len(query.centres), dtype=np.bool_), np.zeros(0, dtype=np.uint8)
    else:
        pixels = np.full(int(box_sizes(query.boxes).sum()), NOT_QUERIED, dtype=np.int16)
        pixels[slice(None) if query.inside is None else query.inside] = found.classes
        starts = np.cumsum(box_sizes(query.boxes)) - box_sizes(query.boxes)
        rows = ~np.logical_or.reduceat(pixels == UNPAINTED, starts)
        values = pixels[np.repeat(rows, box_sizes(query.boxes))].astype(np.uint8)
    return Answers(query.image_id, query.centres[rows], query.boxes[rows], values, query.scores[rows])


def _waiting(
    folder: Path, number: int, queries: Sequence[Query], missing: Mapping[str, PaintedPixels], strays: Sequence[str]
) -> str:
    return (
        f"round {number} waits for answers: {_lacking(queries, missing)}; put them into {folder / 'answers'}, see "
        f"README.txt next to it, and run the same command again{_unused(strays)}"
    )


def _unused(strays: Sequence[str]) -> str:
    line = f"; files that are no PNG of a queried image: {_shortened(strays)}" if strays else ""
    return line if line.isprintable() else ascii(line)[1:-1]


def _lacking(queries: Sequence[Query], missing: Mapping[str, PaintedPixels]) -> str:
    """Which answers are missing, in one line."""
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
    regions = sum(len(query.centres) for query in queries)
    line = f"{regions} regions in {len(queries)} images, of which {', '.join(parts)}"
    return line if line.isprintable() else ascii(line)[1:-1]


def _shortened(items: Sequence[str]) -> str:
    return ", ".join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _most_bytes(size: tuple[int, int]) -> int:
    """What a PNG of eight bytes a pixel needs where nothing can be compressed, and a megabyte for notes in it."""
    height, width = size
    return height * (8 * width + 1) * 101 // 100 + 2**20
