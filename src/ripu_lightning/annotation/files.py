"""Annotation by files: queries are written into a folder, and people or other programs put the answers there."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ripu_lightning.annotation.annotators import AnswersPending, ImagesById, Query
from ripu_lightning.annotation.archive import AnswerArchive
from ripu_lightning.annotation.export import export_round, queried_pixels
from ripu_lightning.annotation.queries import holds_queries, queried_images
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.reading import decode_label
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_QUERIED, Answers
from ripu_lightning.labels.masks import box_pixels
from ripu_lightning.untrusted import read_bounded


class FileAnnotator:
    """Writes queries into ``<folder>/round_001/`` and reads ``<folder>/round_001/answers/ID.png``.

    The README.txt of a round's folder explains it to people. Images without such a file are looked for in
    ``<folder>/round_001/answers.zip``. The answers hold the file ids of the data set's class map at the queried
    pixels; ignored ids mean void. Where ``round_001``
    holds other queries, or rejected answers to these, the folder is ``round_001_2``, and so on.

    Args:
        dataset: the target's training images; its labels are not read.
        folder: made if missing; of this run only.
    """

    name = "files"
    reads_truth = False

    def __init__(self, dataset: SegmentationDataset, folder: str | Path) -> None:
        self._images, self._folder = ImagesById("FileAnnotator", dataset), Path(folder)
        self._lookup = dataset.classes.lookup()

    def check(self, image_sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> None:
        """See :class:`Annotator`."""
        self._images.check(image_sizes, class_names)

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """See :class:`Annotator`; each file is opened when its answers are taken.

        Raises:
            AnswersPending: a file of answers is missing.
            UserError: answers that cannot be read.
        """
        queries = [query for query in queries if len(query.centres)]
        folder = self._folder_of(round_number, queries)
        if not folder.is_dir():
            export_round(folder, round_number, queries, self._images)
        paths, loose, archive = self._locate(folder)
        limits = {query.image_id: _most_bytes(self._images.size(query.image_id)) for query in queries}
        ids = [query.image_id for query in queries]
        missing = [image_id for image_id in ids if image_id not in loose and image_id not in archive]
        if missing:
            regions = sum(len(query.centres) for query in queries)
            raise AnswersPending(
                f"round {round_number} waits for answers: {regions} regions in {len(queries)} images, of which "
                f"{len(missing)} have no answers yet (the first is {missing[0]}.png); put them into "
                f"{folder / 'answers'}, see README.txt next to it, and run the same command again"
            )

        def read(query: Query) -> Answers:
            image_id, path = query.image_id, paths[query.image_id]
            if image_id not in loose:
                return self._answers(folder, query, archive.name(image_id), archive.read(image_id))
            # An unpacked archive may hold links to any file of this machine; its owner can link the folder instead.
            if not path.resolve().is_relative_to((folder / "answers").resolve()):
                raise UserError(f"{path}: is a link that leads out of {folder / 'answers'}; put the file itself there")
            return self._answers(folder, query, str(path), read_bounded(path, limits[image_id]))

        return map(read, queries)

    def held(self, round_number: int, queries: Sequence[Query]) -> set[str] | None:
        """Images whose answers are in the folder that was made for these queries; None where there is none.

        After a roll-back these count, and not what the label store has kept of them: they may have been corrected.
        """
        queries = [query for query in queries if len(query.centres)]
        folder = self._folder_of(round_number, queries)
        if not folder.is_dir():
            return None
        paths, loose, archive = self._locate(folder)
        return {image_id for image_id in paths if image_id in loose or image_id in archive}

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

    def _locate(self, folder: Path) -> tuple[dict[str, Path], set[str], AnswerArchive]:
        """Where each answer of a folder may be, those that are there as a file, and those in the zip."""
        ids = queried_images(folder / "queries.parquet")
        archive = AnswerArchive(folder / "answers.zip", {each: _most_bytes(self._images.size(each)) for each in ids})
        paths = {image_id: folder / "answers" / f"{image_id}.png" for image_id in ids}
        return paths, {image_id for image_id, path in paths.items() if path.is_file()}, archive

    def _answers(self, folder: Path, query: Query, name: str, content: bytes) -> Answers:
        size = self._images.size(query.image_id)
        stored, width = decode_label(content, name, size), size[1]
        found = self._lookup[stored.reshape(-1)]
        queried = queried_pixels(query, width)
        if (found[queried] < 0).any():
            unknown = stored.reshape(-1)[queried[found[queried] < 0]]
            raise UserError(
                f"{name}: {unknown.size} queried pixels hold numbers that belong to no class "
                f"({', '.join(map(str, np.unique(unknown)[:10]))}); use those listed in {folder / 'README.txt'}"
            )
        values = found[box_pixels(query.boxes, width)].astype(np.uint8)
        if query.inside is not None:
            values[~query.inside] = NOT_QUERIED
        return Answers(query.image_id, query.centres, query.boxes, values, query.scores)


def _most_bytes(size: tuple[int, int]) -> int:
    """What a PNG of one channel needs where nothing can be compressed, and a megabyte for notes in it."""
    height, width = size
    return height * (width + 1) * 101 // 100 + 2**20
