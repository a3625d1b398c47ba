"""Annotation by files: what is asked is written into a folder, and people or other programs put the answers there."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ripu_lightning.annotation.annotators import Query, Waiting
from ripu_lightning.annotation.export import asked_pixels, export_round
from ripu_lightning.annotation.queries import read_table, to_table
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.reading import read_label
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_ASKED, Answers
from ripu_lightning.labels.painting import box_pixels


class FileAnnotator:
    """Asks by ``<folder>/round_001/`` and reads ``<folder>/round_001/answers/ID.png``, as its README.txt tells.

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
        elif not read_table(folder / "queries.parquet").equals(to_table(queries)):
            raise UserError(
                f"{folder}: holds the questions of another run; choose another annotator.folder or move this one away"
            )
        missing = [query for query in queries if not _answer_path(folder, query).is_file()]
        if missing:
            raise Waiting(_request(folder, round_number, queries, missing))
        return (self._read(folder, query) for query in queries)

    def _read(self, folder: Path, query: Query) -> Answers:
        path, (height, width) = _answer_path(folder, query), self._dataset.size(query.index)
        stored = read_label(path)
        if stored.shape != (height, width):
            raise UserError(
                f"{path}: is {stored.shape[1]}x{stored.shape[0]}, but its image is {width}x{height}; "
                "save the answers in the image's size"
            )
        found = self._lookup[stored.reshape(-1)]
        asked = asked_pixels(query, width)
        if (found[asked] < 0).any():
            unknown = stored.reshape(-1)[asked[found[asked] < 0]]
            raise UserError(
                f"{path}: {unknown.size} asked pixels hold numbers that are no class's "
                f"({', '.join(map(str, np.unique(unknown)[:10]))}); use those listed in {folder / 'README.txt'}"
            )
        values = found[box_pixels(query.boxes, width)].astype(np.uint8)
        if query.inside is not None:
            values[~query.inside] = NOT_ASKED
        return Answers(query.image_id, query.centres, query.boxes, values, query.scores)


def _answer_path(folder: Path, query: Query) -> Path:
    return folder / "answers" / f"{query.image_id}.png"


def _request(folder: Path, round_number: int, queries: Sequence[Query], missing: Sequence[Query]) -> str:
    regions = sum(len(query.centres) for query in queries)
    return (
        f"round {round_number} waits for answers: {regions} regions in {len(queries)} images, of which {len(missing)} "
        f"have no answers yet (the first is {missing[0].image_id}.png); put them into {folder / 'answers'}, see "
        "README.txt beside it, and give the same command again"
    )
