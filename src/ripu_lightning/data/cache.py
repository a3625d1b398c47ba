"""Files derived from data sets, in one folder for each fingerprint, so that changed data are never confused."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Literal
from uuid import uuid4

from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.files import explained
from ripu_lightning.first_rank import rank_zero_warn
from ripu_lightning.untrusted import SMALL, parse_json, read_bounded

LONGEST_DIGEST = 128
"""Characters: SHA-512 in hexadecimal."""
LARGEST_DIGESTS = 2**28
"""Bytes; enough for a million files."""


class DataCache:
    """Files derived from data sets, below ``FOLDER/FINGERPRINT``.

    For a data set without fingerprint, or without a folder, nothing is found and nothing is kept.

    Args:
        folder: created when something is kept; ``~`` is the home folder; None, or an empty name, keeps nothing.

    Raises:
        InvalidArgument: ``~`` without a home folder, or a value that is no path.
    """

    def __init__(self, folder: str | Path | None) -> None:
        try:
            self.folder = Path(folder).expanduser() if folder else None
        except RuntimeError as error:
            problem = f"is {str(folder)!r}, but no home folder is known; give another folder"
            raise InvalidArgument("ActiveDataModule", "cache", problem) from error
        except TypeError as error:
            raise InvalidArgument("ActiveDataModule", "cache", f"must be a folder or None, got {folder!r}") from error

    def place(self, dataset: SegmentationDataset) -> Path | None:
        """The folder for the files of one data set; None where they cannot be kept."""
        fingerprint = dataset.fingerprint() if self.folder else None
        return self.folder / fingerprint if self.folder and fingerprint else None

    def read(self, dataset: SegmentationDataset, name: str, limit: int = SMALL) -> bytes | None:
        """The content of one file of at most ``limit`` bytes; None where there is none."""
        place = self.place(dataset)
        found = read_complete(place / name, limit) if place else None
        if place and found is None and (place / name).is_file():
            self.warn_damaged(dataset, name)
        return found

    def warn_damaged(self, dataset: SegmentationDataset, name: str) -> None:
        """Warn that a file is not used."""
        rank_zero_warn(f"{self.place(dataset)}/{name}: cannot be read or is damaged; it is computed again")

    def keep(self, dataset: SegmentationDataset, name: str, content: bytes) -> None:
        """Write one file. A failure is only a warning: the content can be derived again."""
        if place := self.place(dataset):
            try:
                write_complete(place / name, content)
            except UserError as error:
                rank_zero_warn(str(error))

    def content(self, dataset: SegmentationDataset) -> str | None:
        """The data set's own digest of its content, computed once for each fingerprint."""
        known = self.read(dataset, "content")
        if known and known.isalnum() and len(known) <= LONGEST_DIGEST:
            return known.decode("ascii")
        if known is not None:
            self.warn_damaged(dataset, "content")
        found = dataset.content()
        if found:
            self.keep(dataset, "content", found.encode())
        return found

    def digests(self, dataset: SegmentationDataset, kind: Literal["images", "labels"]) -> dict[str, str] | None:
        """The data set's own digests of its files, computed once for each fingerprint; None without files."""
        name = f"digests_{kind}"
        known = self.read(dataset, name, LARGEST_DIGESTS)
        if known is not None:
            with suppress(ValueError, RecursionError):
                found = parse_json(known)
                if isinstance(found, dict) and all(isinstance(each, str) for each in found.values()):
                    return found
            self.warn_damaged(dataset, name)
        found = dataset.digests(kind)
        if found is not None:
            self.keep(dataset, name, json.dumps(found).encode())
        return found

    def check(self, dataset: SegmentationDataset, labels: bool = True) -> None:
        """Read everything once, unless the same content was read without a fault before.

        Args:
            dataset: what to read.
            labels: also read the truth, if there is any.

        Raises:
            UserError: the data set's first fault.
        """
        labels = labels and dataset.has_labels
        if all(self.read(dataset, _mark(checked)) is None for checked in {True, labels}):
            dataset.check(labels)
            self.mark_checked(dataset, labels)

    def mark_checked(self, dataset: SegmentationDataset, labels: bool) -> None:
        """Record that all images, and all labels if ``labels`` is set, were read without a fault."""
        if self.read(dataset, _mark(labels)) is None:
            self.keep(dataset, _mark(labels), b"")


def read_complete(path: Path, limit: int = SMALL) -> bytes | None:
    """The content of a file; None where there is none, or it is unreadable or larger than ``limit`` bytes."""
    try:
        return read_bounded(path, limit)
    except UserError:
        return None


def write_complete(path: Path, content: bytes) -> None:
    """Write a file that gets its name only when it is complete, even if several processes write it at once.

    Raises:
        UserError: it cannot be written.
    """
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    with explained(path, "files written before are kept"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _mark(labels: bool) -> str:
    return "checked" if labels else "checked_images"
