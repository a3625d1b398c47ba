"""Annotation by files: what is asked is written into a folder, and people or other programs put the answers there."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ripu_lightning.annotation.annotators import Query, Waiting
from ripu_lightning.annotation.archive import AnswerArchive
from ripu_lightning.annotation.export import asked_pixels, export_round
from ripu_lightning.annotation.queries import holds_queries
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.reading import decode_label
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_ASKED, Answers
from ripu_lightning.labels.painting import box_pixels
from ripu_lightning.untrusted import read_bounded


class FileAnnotator:
    """Asks by ``<folder>/round_001/`` and reads ``<folder>/round_001/answers/ID.png``, as its README.txt tells.

    What is not there is looked for in ``<folder>/round_001/answers.zip``.

    The answers hold the file ids of the data set's class map at the asked pixels; ignored ids mean "can not say".

    Args:
        dataset: the target's training images; its labels are not read.
        folder: made if missing; of this run alone.
    """

    name = "files"
    reads_truth = False

    def __init__(self, dataset: SegmentationDataset, folder: str | Path) -> None:
        self._dataset, self._folder = dataset, Path(folder)
        self._lookup = dataset.classes.lookup()

    def ask(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """See :class:`Annotator`; each file is opened when its answers are taken.

        Raises:
            Waiting: a file of answers is missing.
            UserError: the folder holds the questions of another run, or answers that can not be.
        """
        queries = [query for query in queries if len(query.centres)]
        folder = self._folder / f"round_{round_number:03d}"
        if not folder.is_dir():
            export_round(folder, round_number, queries, self._dataset)
        elif not holds_queries(folder / "queries.parquet", queries):
            raise UserError(
                f"{folder}: holds the questions of another run; choose another annotator.folder or move this one away"
            )
        limits = {query.image_id: _most_bytes(self._dataset.size(query.index)) for query in queries}
        archive = AnswerArchive(folder / "answers.zip", limits)
        loose = {query.image_id for query in queries if _answer_path(folder, query).is_file()}
        missing = [query for query in queries if query.image_id not in loose and query.image_id not in archive]
        if missing:
            raise Waiting(_request(folder, round_number, queries, missing))

        def read(query: Query) -> Answers:
            image_id = query.image_id
            if image_id not in loose:
                return self._answers(folder, query, archive.name(image_id), archive.read(image_id))
            path = _answer_path(folder, query)
            _require_inside(path, folder / "answers")
            return self._answers(folder, query, str(path), read_bounded(path, limits[image_id]))

        return map(read, queries)

    def _answers(self, folder: Path, query: Query, name: str, content: bytes) -> Answers:
        size = self._dataset.size(query.index)
        stored, width = decode_label(content, name, size), size[1]
        found = self._lookup[stored.reshape(-1)]
        asked = asked_pixels(query, width)
        if (found[asked] < 0).any():
            unknown = stored.reshape(-1)[asked[found[asked] < 0]]
            raise UserError(
                f"{name}: {unknown.size} asked pixels hold numbers that are no class's "
                f"({', '.join(map(str, np.unique(unknown)[:10]))}); use those listed in {folder / 'README.txt'}"
            )
        values = found[box_pixels(query.boxes, width)].astype(np.uint8)
        if query.inside is not None:
            values[~query.inside] = NOT_ASKED
        return Answers(query.image_id, query.centres, query.boxes, values, query.scores)


def _answer_path(folder: Path, query: Query) -> Path:
    return folder / "answers" / f"{query.image_id}.png"


def _require_inside(path: Path, answers: Path) -> None:
    # An unpacked archive may hold links to any file of this machine; its owner can link the whole folder instead.
    if not path.resolve().is_relative_to(answers.resolve()):
        raise UserError(f"{path}: is a link that leads out of {answers}; put the file itself there")


def _most_bytes(size: tuple[int, int]) -> int:
    """What a PNG of one channel needs where nothing can be compressed, and a megabyte for notes in it."""
    height, width = size
    return height * (width + 1) * 101 // 100 + 2**20


def _request(folder: Path, round_number: int, queries: Sequence[Query], missing: Sequence[Query]) -> str:
    regions = sum(len(query.centres) for query in queries)
    return (
        f"round {round_number} waits for answers: {regions} regions in {len(queries)} images, of which {len(missing)} "
        f"have no answers yet (the first is {missing[0].image_id}.png); put them into {folder / 'answers'}, see "
        "README.txt beside it, and give the same command again"
    )
