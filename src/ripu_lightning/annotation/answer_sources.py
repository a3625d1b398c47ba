"""What people and programs have put into a round's folder: files of answers, the zip, and what neither explains."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ripu_lightning.annotation.answer_names import STATEMENTS, AnswerNames, is_aside
from ripu_lightning.annotation.archive import AnswerArchive
from ripu_lightning.data.color_masks import LABEL_MAP
from ripu_lightning.errors import UserError
from ripu_lightning.untrusted import SMALL, read_bounded

_OURS = {"README.txt", "answers", "asked", "pictures", "queries.parquet"}

Text = tuple[str, bytes]
"""Name for errors, and content."""


@dataclass(frozen=True)
class Source:
    """One file that answers the queries of an image.

    Attributes:
        name: for errors.
        read: its content.
        label_map: the ``labelmap.txt`` that explains its colours, if there is one.
    """

    name: str
    read: Callable[[], bytes]
    label_map: Text | None


class AnswerSources:
    """The files of answers in ``folder/answers`` and ``folder/answers.zip``.

    Args:
        folder: of the round.
        limits: id of every queried image -> most bytes that its answers need.
        others: ids of the data set's other images.

    Attributes:
        of: the sources of each queried image; several if there are several files for it.
        painted: ids of the images that ``painted.txt`` names.
        strays: files that are for no queried image.

    Raises:
        UserError: the zip or a text file cannot be used, or a link leads out of the folder.
    """

    def __init__(self, folder: Path, limits: Mapping[str, int], others: Collection[str]) -> None:
        self.of: dict[str, list[Source]] = {image_id: [] for image_id in limits}
        self.painted: set[str] = set()
        self._folder, self._limits, self._names = folder / "answers", limits, AnswerNames((*limits, *others))
        archive = folder / "answers.zip"
        ours = _OURS | ({archive.name} if archive.is_file() else set())
        self.strays = [name for name in sorted(os.listdir(folder)) if name not in ours and not is_aside(name)]
        self._add_loose()
        self._add_archive(AnswerArchive(archive, limits, others))

    def _add_loose(self) -> None:
        files = {path.relative_to(self._folder).as_posix(): path for path in _files(self._folder)}
        label_maps = {path.parent: self._text(path) for path in files.values() if path.name == LABEL_MAP}
        for name, path in files.items():
            image_id = self._names.find(name)
            if image_id in self.of:
                label_map = next((label_maps[above] for above in path.parents if above in label_maps), None)
                self.of[image_id].append(Source(str(path), self._reader(path, self._limits[image_id]), label_map))
            elif name != STATEMENTS and not is_aside(name):
                self.strays.append(f"answers/{name}")
        if STATEMENTS in files:
            self._add_statements(self._text(files[STATEMENTS]))

    def _add_archive(self, archive: AnswerArchive) -> None:
        label_map, statements = archive.text(LABEL_MAP), archive.text(STATEMENTS)
        for image_id, sources in self.of.items():
            if image_id in archive:
                sources.append(Source(archive.name(image_id), _bound(archive, image_id), label_map))
        if statements is not None:
            self._add_statements(statements)

    def _add_statements(self, text: Text) -> None:
        name, content = text
        try:
            lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{name}: is no UTF-8 text ({error.reason}); save it as UTF-8") from error
        for number, line in enumerate(lines, 1):
            given = line.strip().removeprefix("./")
            image_id = self._names.find(given if given.lower().endswith(".png") else f"{given}.png")
            if given and image_id not in self.of:
                raise UserError(f"{name}, line {number}: {given[:200]!r} is no queried image; give one id a line")
            self.painted.update({image_id} if image_id else ())

    def _text(self, path: Path) -> Text:
        return str(path), self._reader(path, SMALL)()

    def _reader(self, path: Path, limit: int) -> Callable[[], bytes]:
        def read() -> bytes:
            # An unpacked archive may hold links to any file of this machine; its owner can link the folder instead.
            if not path.resolve().is_relative_to(self._folder.resolve()):
                raise UserError(f"{path}: is a link that leads out of {self._folder}; put the file itself there")
            return read_bounded(path, limit)

        return read


def _bound(archive: AnswerArchive, image_id: str) -> Callable[[], bytes]:
    return lambda: archive.read(image_id)


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder, and links to folders, which are not followed."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        yield from (Path(place, name) for name in sorted([*names, *linked]))
