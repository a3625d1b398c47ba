"""The reading half of a label store: what was asked, what was answered, and what may still be asked."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ripu_lightning.errors import UserError
from ripu_lightning.labels.answers import Answers, UInt8Array
from ripu_lightning.labels.coco import write_coco
from ripu_lightning.labels.committing import open_round
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.groups import GroupCache
from ripu_lightning.labels.manifest import Manifest
from ripu_lightning.labels.painting import paint_asked, paint_available, paint_mask
from ripu_lightning.labels.png import write_masks
from ripu_lightning.labels.reading import RoundFile


class LabelView:
    """The rounds in force of a store, as columns and as images.

    Args:
        folder: where the store lives.
        manifest: the store's.
        images: ``(H, W)`` of every image that may be asked about, where known.
        tolerant: read every file of a round in force at once, and let a damaged one hold nothing.

    Attributes:
        damaged: number of a round in force -> the line that tells its damage; always empty unless ``tolerant``.

    Raises:
        UserError: a file of a round in force is damaged, and ``tolerant`` is not set.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, images: Mapping[str, tuple[int, int]] | None, tolerant: bool = False
    ) -> None:
        self._folder, self._images = folder, None if images is None else dict(images)
        self._tolerant, self._cache = tolerant, GroupCache()
        self.damaged: dict[int, str] = {}
        self._manifest = replace(manifest, committed=(), head=None)
        self._files: tuple[RoundFile | None, ...] = ()  # None where it is damaged
        self._adopt(manifest)

    @property
    def folder(self) -> Path:
        """Where the store lives."""
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """What the store's manifest says, as far as known; see ``refresh``."""
        return self._manifest

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return self._manifest.classes

    @property
    def images(self) -> Mapping[str, tuple[int, int]] | None:
        """``(H, W)`` of every image that may be asked about, in the order given; None where none were given."""
        return self._images

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds in force, in order."""
        return self._manifest.rounds

    @property
    def set_aside(self) -> tuple[Round, ...]:
        """The committed rounds that are not in force, in the order of their commits."""
        return self._manifest.set_aside

    @property
    def queries(self) -> int:
        """Number of queries in the rounds in force."""
        return sum(entry.queries for entry in self.rounds)

    @property
    def pixels(self) -> int:
        """Number of pixels asked in the rounds in force, void answers included."""
        return sum(entry.pixels for entry in self.rounds)

    @property
    def void(self) -> int:
        """Number of pixels asked in the rounds in force that the annotator could not name."""
        return sum(entry.void for entry in self.rounds)

    @property
    def touched(self) -> tuple[str, ...]:
        """Ids of the images with at least one query, in the order they were first asked about."""
        return self.touched_through(None)

    def touched_through(self, through: int | None) -> tuple[str, ...]:
        """:attr:`touched`, of the rounds 1 to ``through`` alone; None counts all."""
        files = [file for file in self._files[:through] if file is not None]
        return tuple(dict.fromkeys(image for file in files for image in file.images))

    def answers(self, image_id: str, number: int) -> Answers | None:
        """What round ``number`` (from 1) answered about one image; None if it did not ask about it."""
        file = self._files[number - 1]
        found = None if file is None else file.read(image_id)
        return None if found is None else found[0]

    def mask(self, image_id: str, through: int | None = None) -> UInt8Array:
        """Labels ``(H, W)`` uint8: class index where answered, 255 elsewhere.

        Where a pixel was asked more than once, the last answer counts.

        Args:
            image_id: one of the store's images.
            through: the last round to count; None counts all.
        """
        return paint_mask(*self._read(image_id, through))

    def asked(self, image_id: str) -> npt.NDArray[np.uint16]:
        """Number of the (last) round in which each pixel was asked, ``(H, W)``; 0 = never."""
        return paint_asked(*self._read(image_id))

    def available(self, image_id: str) -> npt.NDArray[np.bool_]:
        """Whether each pixel may be picked, ``(H, W)``: never asked, and in no exclusion square of an earlier pick."""
        return paint_available(*self._read(image_id))

    def file(self, number: int) -> RoundFile | None:
        """The file of round ``number`` (from 1); None where it is damaged."""
        return self._files[number - 1]

    def open_set_aside(self) -> list[tuple[Round, RoundFile]]:
        """The rounds that are set aside with their files, in the order of their commits; damaged ones are left out."""
        found = []
        for entry in self.set_aside:
            with suppress(UserError):
                file = self._open(entry, in_force=False)
                file.tally()  # all damage is found here, and hinders nobody later
                found.append((entry, file))
        return found

    def export_png(
        self, folder: str | os.PathLike[str], palette: UInt8Array | None = None, through: int | None = None
    ) -> None:
        """Write :meth:`mask` of every touched image as ``<folder>/<image id>.png``, 8 bits a pixel.

        Args:
            folder: made if missing; an id's ``/`` become subfolders.
            palette: ``(256, 3)`` uint8 colours for viewers; the pixel values stay class indices.
            through: the last round to count; None counts all.

        Raises:
            UserError: an image id that would leave the folder, or a file that cannot be written.
        """
        write_masks(Path(folder), self.touched_through(through), lambda image_id: self.mask(image_id, through), palette)

    def export_coco(self, path: str | os.PathLike[str], through: int | None = None) -> None:
        """Write :meth:`mask` of every touched image as one COCO file, an annotation for each class of an image.

        Args:
            path: the JSON file; its folder is made if missing.
            through: the last round to count; None counts all.

        Raises:
            UserError: the extra ``coco`` is not installed, or the file cannot be written.
        """
        masks = ((image_id, self.mask(image_id, through)) for image_id in self.touched_through(through))
        write_coco(Path(path), self.classes, masks)

    def _adopt(self, manifest: Manifest) -> None:
        """Take over a manifest; nothing changes where a file of it is damaged."""
        self._files, self._manifest = self._opened(manifest), manifest

    def _opened(self, manifest: Manifest) -> tuple[RoundFile | None, ...]:
        """The files of a manifest's rounds in force; those not known yet are opened."""
        known = dict(zip(self.rounds, self._files, strict=True))
        return tuple(known[entry] if entry in known else self._salvaged(entry) for entry in manifest.rounds)

    def _salvaged(self, entry: Round) -> RoundFile | None:
        try:
            file = self._open(entry)
            if self._tolerant:
                file.tally()
            return file
        except UserError as error:
            if not self._tolerant:
                raise
            self.damaged[entry.number] = str(error)
            return None

    def _open(self, entry: Round, in_force: bool = True) -> RoundFile:
        return open_round(self._folder, entry, len(self.classes), self._images, self._cache, in_force)

    def _read(self, image_id: str, through: int | None = None) -> tuple[tuple[int, int], list[tuple[Round, Answers]]]:
        """``(H, W)`` of an image and what was answered about it, round by round."""
        files = list(zip(self.rounds, self._files, strict=True))[:through]
        found = [(entry, file.read(image_id)) for entry, file in files if file is not None]
        rounds = [(entry, read) for entry, read in found if read is not None]
        size = (self._images or {}).get(image_id)
        if size is None and not rounds:
            reason = "no image of this label store" if self._images else "never asked about, its size is unknown"
            raise ValueError(f"{image_id}: {reason}")
        return size or rounds[0][1][1], [(entry, answers) for entry, (answers, _) in rounds]
