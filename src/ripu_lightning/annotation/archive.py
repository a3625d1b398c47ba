"""Answers in one zip: its members are read in memory, and nothing is extracted."""

import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ripu_lightning.annotation.answer_names import CVAT, STATEMENTS, AnswerNames, is_aside, is_inside
from ripu_lightning.data.color_masks import LABEL_MAP
from ripu_lightning.errors import UserError
from ripu_lightning.files import first_line
from ripu_lightning.untrusted import SMALL


class AnswerArchive:
    """The PNGs of a zip, by the images that they are for; without the file, there are none.

    Names are read as :class:`AnswerNames` does. What file managers add (``__MACOSX/``, ``.DS_Store``), and what else is
    in a round's folder or in CVAT's "Segmentation mask 1.1", is left aside.

    Args:
        path: of the zip.
        limits: id of every queried image -> most bytes that its answers need.
        others: ids of the images that are not queried.

    Raises:
        UserError: the zip is damaged, or holds anything else.
    """

    def __init__(self, path: Path, limits: Mapping[str, int], others: Iterable[str] = ()) -> None:
        self.path = path
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._texts: dict[str, zipfile.ZipInfo] = {}
        if not path.is_file():
            return
        names = AnswerNames((*limits, *others))
        try:
            self._archive = zipfile.ZipFile(path)
        except Exception as error:  # a damaged directory makes the reader raise nearly anything
            raise UserError(f"{path} cannot be unpacked ({first_line(error)}); pack it again") from error
        for member in self._archive.infolist():
            if problem := self._add(member, names, limits):
                raise UserError(f"{path}: {member.filename[:200]!r} {problem}")

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._members

    def read(self, image_id: str) -> bytes:
        """The PNG of an image. Raises ``UserError`` where it cannot be unpacked."""
        return self._read(self._members[image_id])

    def text(self, name: str) -> tuple[str, bytes] | None:
        """Name for errors and content of the file ``name``, in any folder; None where there is none."""
        member = self._texts.get(name)
        return None if member is None else (f"{self.path}: {member.filename}", self._read(member))

    def name(self, image_id: str) -> str:
        """Of the image's member, for errors."""
        return f"{self.path}: {self._members[image_id].filename}"

    def _add(self, member: zipfile.ZipInfo, names: AnswerNames, limits: Mapping[str, int]) -> str:
        """What is wrong with a member; empty where nothing is."""
        path = member.filename.replace("\\", "/")
        image_id = next((found for name in _spellings(member) if (found := names.find(name))), None)
        if (
            image_id is None
            and is_inside(path.rstrip("/"))
            and (path.endswith("/") or is_aside(path) or path.endswith(STATEMENTS))
        ):
            return self._add_text(member, PurePosixPath(path).name)
        if image_id is not None and image_id not in limits and CVAT in path.split("/"):
            return ""  # its tasks may have more images than a round
        if image_id is None or image_id not in limits:
            return "is the answer to no queried image; pack only ID.png or answers/ID.png"
        if image_id in self._members:
            return f"is there twice, also as {self._members[image_id].filename[:200]!r}; pack every image once"
        if member.file_size > limits[image_id]:  # no more than that is unpacked
            return f"has {member.file_size:,} bytes, more than the answers to its image need"
        self._members[image_id] = member
        return ""

    def _add_text(self, member: zipfile.ZipInfo, name: str) -> str:
        if name not in (LABEL_MAP, STATEMENTS):
            return ""
        if name in self._texts:
            return "is there twice; pack one"
        self._texts[name] = member
        return f"has {member.file_size:,} bytes, which such a file never has" if member.file_size > SMALL else ""

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        try:
            return self._archive.read(member)
        except Exception as error:
            line = f"{self.path}: {member.filename} cannot be unpacked ({first_line(error)}); pack it again"
            raise UserError(line) from error


def _spellings(member: zipfile.ZipInfo) -> list[str]:
    """The member's name as Python reads it; then as UTF-8 where the zip does not say, as macOS packs it."""
    names = [member.filename]
    if not member.flag_bits & 0x800:
        with suppress(UnicodeError):
            names.append(member.filename.encode("cp437").decode("utf-8"))
    return names
