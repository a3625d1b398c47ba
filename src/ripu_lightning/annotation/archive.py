"""Answers in one zip: its members are read in memory, and nothing is extracted."""

import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ripu_lightning.errors import UserError
from ripu_lightning.files import first_line


class AnswerArchive:
    """The members ``ID.png`` or ``answers/ID.png`` of a zip; without the file, there are none.

    Args:
        path: of the zip.
        limits: id of every queried image -> most bytes that its answers need.

    Raises:
        UserError: the zip is damaged, or holds anything else.
    """

    def __init__(self, path: Path, limits: Mapping[str, int]) -> None:
        self.path = path
        self._members: dict[str, zipfile.ZipInfo] = {}
        if not path.is_file():
            return
        names = {f"{folder}{image_id}.png": image_id for image_id in limits for folder in ("", "answers/")}
        folders = {f"{folder}/" for name in names for folder in PurePosixPath(name).parents}
        try:
            self._archive = zipfile.ZipFile(path)
        except Exception as error:  # a damaged directory makes the reader raise nearly anything
            raise UserError(f"{path} cannot be unpacked ({first_line(error)}); pack it again") from error
        for member in self._archive.infolist():
            image_id, problem = names.get(member.filename, ""), ""
            if member.filename in folders:
                continue
            if member.filename not in names:
                problem = "is the answer to no queried image; pack only ID.png or answers/ID.png"
            elif image_id in self._members:
                problem = "is there twice; pack every image once"
            elif member.file_size > limits[image_id]:  # no more than that is unpacked
                problem = f"has {member.file_size:,} bytes, more than the answers to its image need"
            if problem:
                raise UserError(f"{path}: {member.filename[:200]!r} {problem}")
            self._members[image_id] = member

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._members

    def read(self, image_id: str) -> bytes:
        """The PNG of an image. Raises ``UserError`` where it cannot be unpacked."""
        try:
            return self._archive.read(self._members[image_id])
        except Exception as error:
            raise UserError(f"{self.name(image_id)} cannot be unpacked ({first_line(error)}); pack it again") from error

    def name(self, image_id: str) -> str:
        """Of the image's member, for errors."""
        return f"{self.path}: {self._members[image_id].filename}"
