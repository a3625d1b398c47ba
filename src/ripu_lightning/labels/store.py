"""The label store: the single truth of what was asked, what was answered, and what may still be asked."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from ripu_lightning.errors import UserError
from ripu_lightning.files import WriterLock, explained, sha256_of
from ripu_lightning.labels.answers import Answers
from ripu_lightning.labels.committing import write_round
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.manifest import NAME, Manifest
from ripu_lightning.labels.manifest_file import create_manifest, read_manifest, write_manifest
from ripu_lightning.labels.view import LabelView


class LabelStore(LabelView):
    """A folder with ``manifest.json``, one immutable Parquet file a round, and the writer's ``lock``.

    Make one with :meth:`create_or_open` (the writer) or :meth:`open` (any number of readers). What a commit
    wrote becomes visible by the atomic replacement of the manifest, hence wholly or not at all. A pickled
    copy, and a forked child's, is a reader.

    Nothing committed is ever overwritten or deleted: :meth:`roll_back` moves the manifest's pointer, and the rounds
    that are then no longer in force are set aside.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        images: Mapping[str, tuple[int, int]] | None,
        lock: WriterLock | None,
        tolerant: bool = False,
    ) -> None:
        self._lock = lock
        super().__init__(folder, manifest, images, tolerant)

    @classmethod
    def create_or_open(
        cls, folder: str | os.PathLike[str], *, classes: Sequence[str], images: Mapping[str, tuple[int, int]]
    ) -> "LabelStore":
        """The store in ``folder`` as its only writer; made empty where there is none.

        Args:
            folder: where the store lives; made if missing.
            classes: class names by index.
            images: ``(H, W)`` of every image that may be asked about.

        Raises:
            UserError: another writer holds it, it belongs to other classes or images, or it is damaged.
        """
        path = Path(folder)
        with explained(path, "nothing was changed"):
            path.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(path)
        try:
            if not (path / NAME).exists():
                create_manifest(path, classes, images)
            return cls(path, read_manifest(path, classes, images), images, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        images: Mapping[str, tuple[int, int]] | None = None,
    ) -> "LabelStore":
        """The store in ``folder`` for reading; takes no lock and writes nothing.

        Args:
            folder: where the store lives.
            classes: checked against the store where given.
            images: likewise; without them, only images that were asked about can be read.

        Raises:
            UserError: there is no store, it belongs to other classes or images, or it is damaged.
        """
        path = Path(folder)
        return cls(path, read_manifest(path, classes, images), images, None)

    @classmethod
    def salvage(cls, folder: str | os.PathLike[str]) -> "LabelStore":
        """What can be read of the store in ``folder``: every file is read whole, and a damaged round holds nothing.

        Raises:
            UserError: there is no store, or its manifest is damaged.
        """
        path = Path(folder)
        return cls(path, read_manifest(path), None, None, tolerant=True)

    def commit(self, answers: Iterable[Answers], *, strategy: str, annotator: str, exclusion: int) -> Round:
        """Write the next round, wholly or not at all.

        The answers are written as they come; only a few images are in memory at a time.

        Args:
            answers: one for each image of the round.
            strategy: what picked the queries.
            annotator: who answered.
            exclusion: radius of the square made unavailable around each centre, in pixels.

        Raises:
            RuntimeError: the store is open for reading only.
            ValueError: answers that do not fit the store; the line names the image.
            UserError: the disk refused. Whatever ``answers`` raises passes through.
        """
        self._require_writer()
        if exclusion < 0:
            raise ValueError(f"exclusion must be at least 0, not {exclusion}")
        number, note = len(self.rounds) + 1, self._note()
        path = self._folder / self._manifest.next_file()
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        about = {"strategy": strategy, "annotator": annotator, "time": time}
        try:
            counts = write_round(path, answers, self._images or {}, len(self.classes), about, note)
            digest, head = sha256_of(path), self._manifest.head
            entry = Round(number, path.name, digest, head, *counts, strategy, annotator, int(exclusion), time)
            self._replace(self._manifest.with_round(entry), note)
        except BaseException:
            self._undo(path)
            raise
        return entry

    def roll_back(self, to: int | str) -> None:
        """Put other rounds in force, by moving the manifest's pointer and nothing else.

        Args:
            to: number of a round in force (0 for none), or the first 6 or more digits of any committed round's
                ``sha256``: also forwards, and to another branch.

        Raises:
            RuntimeError: the store is open for reading only.
            UserError: no such round, a file of a round that would be in force is damaged, or the disk refused.
        """
        self._require_writer()
        manifest = self._manifest.at(to)
        try:
            self._replace(manifest, "nothing was changed")
        except BaseException:
            with suppress(UserError, OSError):
                self._adopt(read_manifest(self._folder))  # which decides
            raise

    def refresh(self) -> None:
        """Read the manifest again: another process may have committed.

        Raises:
            UserError: the store is damaged, or another one has taken its place.
        """
        manifest = read_manifest(self._folder, self.classes)
        if manifest.fingerprint != self._manifest.fingerprint:
            raise UserError(f"label store {self._folder} was replaced by one of other data: start again")
        self._adopt(manifest)

    def close(self) -> None:
        """Release the writer's lock; reading goes on working."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def _require_writer(self) -> None:
        if self._lock is None or not self._lock.held:
            raise RuntimeError(f"label store {self._folder} is open for reading only")

    def _note(self) -> str:
        count = len(self.rounds)
        return f"the labels of rounds 1..{count} are safe" if count else "nothing was bought before"

    def _replace(self, manifest: Manifest, note: str) -> None:
        """Make ``manifest`` the store's, unless a file of it could not be read."""
        files = self._opened(manifest)
        write_manifest(self._folder, manifest, note)
        self._files, self._manifest = files, manifest

    def _undo(self, path: Path) -> None:
        """After a failed commit: drop its file, unless the manifest, which decides, lists it already."""
        with suppress(UserError, OSError):
            manifest = read_manifest(self._folder)
            if path.name in [entry.file for entry in manifest.committed]:
                self._adopt(manifest)
            else:
                path.unlink(missing_ok=True)


def roll_back(folder: str | os.PathLike[str], to: int | str) -> None:
    """:meth:`LabelStore.roll_back` of a store that needs not be whole: that is when people need it.

    Raises:
        UserError: no store, no such round, a writer holds the store, or the disk refused.
    """
    path = Path(folder)
    read_manifest(path)  # or the lock would be the first file of a store that there is not
    lock = WriterLock(path)
    try:
        write_manifest(path, read_manifest(path).at(to), "nothing was changed")
    finally:
        lock.release()
