"""What was derived from data sets, on disk: one folder a fingerprint, so that changed data are never mixed up."""

from pathlib import Path
from uuid import uuid4

from pytorch_lightning.utilities import rank_zero_warn

from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError
from ripu_lightning.files import explained
from ripu_lightning.untrusted import SMALL, read_bounded

LONGEST_DIGEST = 128
"""Characters: SHA-512 in hexadecimal."""


class DataCache:
    """Files derived from data sets, below ``FOLDER/FINGERPRINT``.

    A data set without fingerprint, or a cache without folder: nothing is found and nothing is kept.

    Args:
        folder: made when something is kept; ``~`` is the home folder; None, or an empty name, keeps nothing.

    Raises:
        UserError: ``~`` without a home folder, or a value that is no path.
    """

    def __init__(self, folder: str | Path | None) -> None:
        try:
            self.folder = Path(folder).expanduser() if folder else None
        except RuntimeError as error:
            raise UserError(f"data.cache: {folder}: no home folder is known; give another folder") from error
        except TypeError as error:
            raise UserError(f"data.cache: expected a folder or null, got {folder!r}") from error

    def place(self, dataset: SegmentationDataset) -> Path | None:
        """The folder of one data set's files; None where they can not be kept."""
        fingerprint = dataset.fingerprint() if self.folder else None
        return self.folder / fingerprint if self.folder and fingerprint else None

    def read(self, dataset: SegmentationDataset, name: str, limit: int = SMALL) -> bytes | None:
        """The content of one file of at most ``limit`` bytes; None where it is not there."""
        place = self.place(dataset)
        found = read_whole(place / name, limit) if place else None
        if place and found is None and (place / name).is_file():
            self.warn_damaged(dataset, name)
        return found

    def warn_damaged(self, dataset: SegmentationDataset, name: str) -> None:
        """Tell that a file is done without."""
        rank_zero_warn(f"data.cache: {self.place(dataset)}/{name} can not be read or is damaged; it is made anew")

    def keep(self, dataset: SegmentationDataset, name: str, content: bytes) -> None:
        """Write one file; where that fails, warn and do without it: it can be derived again."""
        place = self.place(dataset)
        if place is None:
            return
        try:
            write_whole(place / name, content)
        except UserError as error:
            rank_zero_warn(f"data.cache: {error}")

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

    def check(self, dataset: SegmentationDataset, labels: bool = True) -> None:
        """Read everything once, but only if this very content has not passed before.

        Args:
            dataset: what to read.
            labels: also open the truth, if there is any.

        Raises:
            UserError: the data set's first fault.
        """
        labels = labels and dataset.has_labels
        if not any(self.read(dataset, _mark(whole)) is not None for whole in {True, labels}):
            dataset.check(labels)
            self.mark_checked(dataset, labels)

    def mark_checked(self, dataset: SegmentationDataset, labels: bool) -> None:
        """Record that all images, and all labels if ``labels`` is set, were read without a fault."""
        if self.read(dataset, _mark(labels)) is None:
            self.keep(dataset, _mark(labels), b"")


def read_whole(path: Path, limit: int = SMALL) -> bytes | None:
    """The content of a file, or None: not there, not ours to read, or larger than what we write."""
    try:
        return read_bounded(path, limit)
    except UserError:
        return None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that takes its name only when it is whole, also where several processes write it at once.

    Raises:
        UserError: it can not be written.
    """
    temporary = path.with_name(f".{uuid4().hex}.tmp")
    with explained(path, "what was written before is kept"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _mark(labels: bool) -> str:
    return "checked" if labels else "checked_images"
