"""Answers that are sent back as one zip: its members are read in memory, and nothing is extracted."""

import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ripu_lightning.errors import UserError


class AnswerArchive:
    """The members ``ID.png`` or ``answers/ID.png`` of a zip; without the file, there are none.

    Args:
        path: of the zip.
        limits: of every asked image's id, how many bytes its answers can have.

    Raises:
        UserError: no whole zip, or one that holds anything else.
    """

    def __init__(self, path: Path, limits: Mapping[str, int]) -> None:
        self.path, self._limits = path, limits
        self._members: dict[str, zipfile.ZipInfo] = {}
        if not path.is_file():
            return
        most = sum(limits.values()) + 2**20
        if path.stat().st_size > most:
            raise UserError(f"{path}: has more than {most:,} bytes, which the answers can not need; pack them alone")
        try:
            self._archive = zipfile.ZipFile(path)
        except Exception as error:  # a damaged directory makes the reader raise nearly anything
            raise self._unreadable(str(path), error) from error
        names = {f"answers/{image_id}.png": image_id for image_id in limits}
        names |= {f"{image_id}.png": image_id for image_id in limits}
        folders = {f"{folder}/" for name in names for folder in PurePosixPath(name).parents}
        for member in self._archive.infolist():
            if member.filename not in folders:
                self._add(member, names.get(member.filename))

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._members

    def read(self, image_id: str) -> bytes:
        """The PNG of an image. Raises UserError where it can not be unpacked."""
        member = self._members[image_id]
        try:
            return self._archive.read(member)
        except Exception as error:
            raise self._unreadable(self.name(image_id), error) from error

    def name(self, image_id: str) -> str:
        """Of the image's member, for errors."""
        return f"{self.path}: {self._members[image_id].filename}"

    def _add(self, member: zipfile.ZipInfo, image_id: str | None) -> None:
        if image_id is None or stat.S_ISLNK(member.external_attr >> 16):
            raise self._refused(member, "is the answer to no asked image; pack ID.png or answers/ID.png alone")
        if image_id in self._members:
            raise self._refused(member, "is there twice; pack every image once")
        if member.flag_bits & 1 or member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise self._refused(member, "is encrypted or packed in an unusual way; pack a plain zip")
        if member.file_size > self._limits[image_id]:  # no more than that is unpacked
            raise self._refused(member, f"has {member.file_size:,} bytes, more than the answers to its image need")
        self._members[image_id] = member

    def _refused(self, member: zipfile.ZipInfo, reason: str) -> UserError:
        return UserError(f"{self.path}: {member.filename[:200]!r} {reason}")

    @staticmethod
    def _unreadable(what: str, error: Exception) -> UserError:
        reason = " ".join(str(error).split()) or type(error).__name__
        return UserError(f"{what} can not be unpacked ({reason}); pack it anew")
