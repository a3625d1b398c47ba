"""The label store: the single truth of what was queried, what was answered, and what may still be selected."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError, require_integer
from ripu_lightning.files import FolderLock, explained, sha256_of
from ripu_lightning.labels.answers import Answers, UInt8Array
from ripu_lightning.labels.committed_round import open_round
from ripu_lightning.labels.export import write_coco, write_labels
from ripu_lightning.labels.manifest import NAME, Classes, Images, Manifest, read_manifest, write_manifest
from ripu_lightning.labels.masks import paint_available, paint_mask, paint_query_round
from ripu_lightning.labels.round import Round
from ripu_lightning.labels.round_file import GroupCache, RoundFile, write_round


class LabelStore:
    """A folder with ``manifest.json``, one immutable Parquet file a round, and the writer's ``lock``.

    Make one with :meth:`create_or_open` (the writer), :meth:`open` (any number of readers) or :meth:`salvage` (a
    reader of what is intact). A commit becomes visible by the atomic replacement of the manifest, so wholly or not
    at all. A pickled copy, and a forked child's, is a reader.

    Nothing committed is ever overwritten or deleted: :meth:`roll_back` moves a pointer, and the rounds behind it become
    inactive.

    Attributes:
        folder: where the store is.
        images: ``(H, W)`` of every image that may be queried, in the order given, or in that of the store.
        manifest: what the store's manifest says, as far as known; see :meth:`refresh`.
        damaged: number of an active round -> the line about its damage; always empty unless salvaged.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, images: Images | None, lock: FolderLock | None, tolerant: bool = False
    ) -> None:
        self.folder, self.images = folder, dict(images or manifest.images)
        self._lock, self._tolerant, self._cache = lock, tolerant, GroupCache()
        self.damaged: dict[int, str] = {}
        self.manifest = Manifest(manifest.class_map, manifest.images)
        self._files: tuple[RoundFile | None, ...] = ()  # None where it is damaged
        self._adopt(manifest)

    @classmethod
    def create_or_open(cls, folder: str | os.PathLike[str], *, classes: Classes, images: Images) -> "LabelStore":
        """The store in ``folder`` as its only writer; made empty where there is none.

        Args:
            folder: where the store is; made if missing.
            classes: the class map, or its names alone, 2 to 254.
            images: ``(H, W)`` of every image that may be queried.

        Raises:
            UserError: another writer holds it, it belongs to other classes or images, or it is damaged.
        """
        path = Path(folder)
        with explained(path, "nothing was changed"):
            path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path)
        try:
            if not (path / NAME).exists():
                class_map = classes if isinstance(classes, ClassMap) else ClassMap.from_names(classes)
                manifest = Manifest(class_map, {name: (int(size[0]), int(size[1])) for name, size in images.items()})
                for left in sorted(path.glob("round_*.parquet")):
                    # Rounds are only written once there is a manifest: these are somebody's labels.
                    raise UserError(f"{left} exists without {NAME}: restore {NAME} or choose another output folder")
                write_manifest(path, manifest, "the store holds no labels yet")
            return cls(path, read_manifest(path, classes, images), images, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(
        cls, folder: str | os.PathLike[str], *, classes: Classes | None = None, images: Images | None = None
    ) -> "LabelStore":
        """The store in ``folder`` for reading; takes no lock and writes nothing.

        Args:
            folder: where the store is.
            classes: checked against the store where given.
            images: likewise.

        Raises:
            UserError: there is no store, it belongs to other classes or images, or it is damaged.
        """
        return cls(Path(folder), read_manifest(Path(folder), classes, images), images, None)

    @classmethod
    def salvage(cls, folder: str | os.PathLike[str]) -> "LabelStore":
        """What can be read of the store in ``folder``: every file is read completely, a damaged round holds nothing.

        Raises:
            UserError: there is no store, or its manifest is damaged.
        """
        return cls(Path(folder), read_manifest(Path(folder)), None, None, tolerant=True)

    @property
    def class_map(self) -> ClassMap:
        """What the labels mean: names, colours and file ids of the classes by index."""
        return self.manifest.class_map

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return self.manifest.class_map.names

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The active rounds, in order."""
        return self.manifest.rounds

    @property
    def inactive(self) -> tuple[Round, ...]:
        """The inactive rounds, in the order of their commits."""
        return self.manifest.inactive

    @property
    def queries(self) -> int:
        """Number of queries in the active rounds."""
        return sum(entry.queries for entry in self.rounds)

    @property
    def pixels(self) -> int:
        """Number of queried pixels in the active rounds, void ones included."""
        return sum(entry.pixels for entry in self.rounds)

    @property
    def void(self) -> int:
        """Number of queried pixels in the active rounds without a class."""
        return sum(entry.void for entry in self.rounds)

    @property
    def queried_images(self) -> tuple[str, ...]:
        """Ids of the images with at least one query, in the order of their first query."""
        return self.queried_images_through(None)

    def queried_images_through(self, through: int | None) -> tuple[str, ...]:
        """:attr:`queried_images` of the rounds 1 to ``through`` only; None counts all."""
        files = [file for file in self._files[:through] if file is not None]
        return tuple(dict.fromkeys(image for file in files for image in file.images))

    def answers(self, image_id: str, number: int) -> Answers | None:
        """The answers of round ``number`` (from 1) about one image; None if the round did not query it."""
        file = self._files[number - 1]
        found = None if file is None else file.read(image_id)
        return None if found is None else found[0]

    def mask(self, image_id: str, through: int | None = None) -> UInt8Array:
        """Labels ``(H, W)`` uint8: class index where answered, the last one of several; 255 at all other pixels.

        Args:
            image_id: one of the store's images.
            through: the last round to count; None counts all.
        """
        return paint_mask(*self._read(image_id, through))

    def query_round(self, image_id: str, through: int | None = None) -> npt.NDArray[np.uint16]:
        """Number of the (last) round that queried each pixel, ``(H, W)``; 0 = never. See :meth:`mask`."""
        return paint_query_round(*self._read(image_id, through))

    def available(self, image_id: str) -> npt.NDArray[np.bool_]:
        """Whether each pixel ``(H, W)`` may be selected.

        That is, never queried, in no exclusion square of an earlier query, and in no image that is skipped.
        """
        free = paint_available(*self._read(image_id))
        return np.zeros_like(free) if image_id in self.manifest.skipped else free

    def file(self, number: int) -> RoundFile | None:
        """The file of round ``number`` (from 1); None where it is damaged."""
        return self._files[number - 1]

    def open_inactive(self) -> list[tuple[Round, RoundFile]]:
        """The inactive rounds with their files, in the order of their commits; damaged ones are left out."""
        found = []
        for entry in self.inactive:
            with suppress(UserError):
                file = open_round(self.folder, entry, self.manifest, self._cache)
                file.tally()  # any damage is found here, and not when the answers are used
                found.append((entry, file))
        return found

    def export_png(
        self, folder: str | os.PathLike[str], values: Literal["id", "index"] = "id", through: int | None = None
    ) -> None:
        """Write :meth:`mask` ``(image, through)`` of every queried image as ``<folder>/<image id>.png``.

        See :func:`~ripu_lightning.labels.export.write_labels` for the numbers in them and the errors.
        """
        mask, query_round = partial(self.mask, through=through), partial(self.query_round, through=through)
        write_labels(Path(folder), self.queried_images_through(through), mask, query_round, self.class_map, values)

    def export_coco(
        self, path: str | os.PathLike[str], through: int | None = None, file_names: Mapping[str, str] | None = None
    ) -> None:
        """Write :meth:`mask` ``(image, through)`` of every queried image into one COCO file.

        See :func:`~ripu_lightning.labels.export.write_coco` for its content and the errors.
        """
        masks = ((image_id, self.mask(image_id, through)) for image_id in self.queried_images_through(through))
        write_coco(Path(path), self.classes, masks, file_names)

    def commit(self, answers: Iterable[Answers], *, strategy: str, annotator: str, exclusion: int) -> Round:
        """Write the next round, wholly or not at all.

        The answers are written as they come; only a few images are in memory at a time.

        Args:
            answers: one for each image of the round.
            strategy: name of the strategy that selected the queries.
            annotator: name of the annotator that answered them.
            exclusion: radius of the square made unavailable around each centre, in pixels.

        Raises:
            RuntimeError: the store is open for reading only.
            ValueError: answers that do not fit the store; the line names the image.
            UserError: the disk refused. Whatever ``answers`` raises passes through.
        """
        self._require_writer()
        require_integer("LabelStore.commit", "exclusion", exclusion)
        count = len(self.rounds)
        note = f"the labels of rounds 1..{count} are safe" if count else "the store holds no labels yet"
        path, head = self.folder / self.manifest.next_file(), self.manifest.head
        time = datetime.now(timezone.utc).isoformat(timespec="seconds")
        about = {"strategy": strategy, "annotator": annotator, "time": time}
        try:
            counts = write_round(path, answers, self.images, len(self.classes), note, about)
            entry = Round(count + 1, path.name, sha256_of(path), head, *counts, strategy, annotator, exclusion, time)
            self._replace(self.manifest.with_round(entry), note)
        except BaseException:
            with suppress(UserError, OSError):
                manifest = read_manifest(self.folder)  # which decides: it may list the round already
                if path.name in [entry.file for entry in manifest.committed]:
                    self._adopt(manifest)
                else:
                    path.unlink(missing_ok=True)
            raise
        return entry

    def roll_back(self, to: int | str) -> None:
        """Make other rounds active, by moving the manifest's pointer and nothing else.

        Args:
            to: number of an active round (0 for none), or the first 6 or more digits of any committed round's
                ``sha256``: also forwards, and to another branch.

        Raises:
            RuntimeError: the store is open for reading only.
            UserError: no such round, a file of a round that would be active is damaged, or the disk refused.
        """
        self._require_writer()
        manifest = self.manifest.at(to)
        try:
            self._replace(manifest, "nothing was changed")
        except BaseException:
            with suppress(UserError, OSError):
                self._adopt(read_manifest(self.folder))  # which decides
            raise

    def refresh(self) -> None:
        """Read the manifest again: another process may have committed.

        Raises:
            UserError: the store is damaged, or another one has taken its place.
        """
        self._adopt(read_manifest(self.folder, self.class_map, self.manifest.images))

    def close(self) -> None:
        """Release the writer's lock; the store can still be read."""
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def _require_writer(self) -> None:
        if self._lock is None or not self._lock.held:
            raise RuntimeError(f"label store {self.folder} is open for reading only")

    def _replace(self, manifest: Manifest, note: str) -> None:
        """Make ``manifest`` the store's, unless a file of it cannot be read."""
        files = self._opened(manifest)
        write_manifest(self.folder, manifest, note)
        self._files, self.manifest = files, manifest

    def _adopt(self, manifest: Manifest) -> None:
        """Take over a manifest; nothing changes where a file of it is damaged."""
        self._files, self.manifest = self._opened(manifest), manifest

    def _opened(self, manifest: Manifest) -> tuple[RoundFile | None, ...]:
        """The files of a manifest's active rounds; those not known yet are opened."""
        files = dict(zip(self.rounds, self._files, strict=True))
        for entry in manifest.rounds:
            try:
                if entry not in files:
                    files[entry] = file = open_round(self.folder, entry, manifest, self._cache)
                    if self._tolerant:
                        file.tally()
            except UserError as error:
                if not self._tolerant:
                    raise
                self.damaged[entry.number], files[entry] = str(error), None
        return tuple(files[entry] for entry in manifest.rounds)

    def _read(self, image_id: str, through: int | None = None) -> tuple[tuple[int, int], list[tuple[Round, Answers]]]:
        """``(H, W)`` of an image and the answers about it, round by round."""
        files = list(zip(self.rounds, self._files, strict=True))[:through]
        found = [(entry, file.read(image_id)) for entry, file in files if file is not None]
        rounds = [(entry, read) for entry, read in found if read is not None]
        if image_id not in self.images:
            raise ValueError(f"{image_id}: no image of this label store")
        return self.images[image_id], [(entry, answers) for entry, (answers, _) in rounds]
