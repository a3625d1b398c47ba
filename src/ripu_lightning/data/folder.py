"""A data set from folders of images and labels and one class map."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from tqdm import tqdm

from ripu_lightning.class_map import ClassMap, load_class_map
from ripu_lightning.data.color_masks import LABEL_MAP, LabelDecoder, StoredLabel
from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.data.layout import IMAGES, LABELS, OWNER, Layout
from ripu_lightning.data.reading import READING_VERSION, is_turned, read_image, read_label, read_size, unreadable
from ripu_lightning.data.resizing import resize_mask
from ripu_lightning.errors import InvalidArgument, UserError, require_choice
from ripu_lightning.files import sha256_of
from ripu_lightning.first_rank import leads, rank_zero_warn
from ripu_lightning.untrusted import read_bounded

T = TypeVar("T")


class FolderDataset(SegmentationDataset):
    """Images and labels in folders, by default ``images/SPLIT/**/NAME.*`` and ``labels/SPLIT/**/NAME.png``.

    Images are 8-bit RGB, turned upright as their EXIF orientation says. Labels hold the file ids of the class map, in
    one channel or a palette of 8 bits, or its colours, in RGB; a ``labelmap.txt`` in ``root`` replaces the colours.

    Args:
        root: the folder that contains both.
        split: for example ``train``; None where the patterns have no split.
        classes: name of a built-in class map, path of a YAML (see :func:`load_class_map`), or the map itself, also as
            :meth:`ClassMap.as_dict` gives it.
        images: pattern of the images, see :class:`~ripu_lightning.data.layout.Layout`.
        labels: pattern of the labels; None for a data set without labels.
        label_bits: 8, or 16 for labels whose first channel of 16 bits holds the ids.
        mismatch: for a label of another size than its image: ``error``, ``resize`` (the label, nearest), or ``skip``
            (the pair).
        orphans: for an image without label or a label without image: ``error`` or ``skip``.
        convert: ``rgb`` also reads grey, palette, CMYK and 16-bit images, see
            :func:`~ripu_lightning.data.reading.read_image`; labels are never converted.

    Raises:
        UserError: no such folder or class map, no images, an image without label or a label without image.
    """

    config_key: str = ""
    """Where a config describes it, such as ``data.source``; errors name its keys."""

    def __init__(
        self,
        root: str,
        split: str | None,
        classes: str | ClassMap | Mapping[str, Any],
        images: str = IMAGES,
        labels: str | None = LABELS,
        label_bits: int = 8,
        mismatch: Literal["error", "resize", "skip"] = "error",
        orphans: Literal["error", "skip"] = "error",
        convert: Literal["rgb"] | None = None,
    ) -> None:
        texts = {"root": root, "split": split, "images": images, "labels": labels}
        if not isinstance(classes, (ClassMap, Mapping)):
            texts["classes"] = classes
        for argument, value in texts.items():
            if not isinstance(value, str) and not (value is None and argument in ("split", "labels")):
                # A YAML reads 2012 as a number.
                number = isinstance(value, (int, float))
                hint = f"; write a number in quotes: {argument}='\"{value}\"'" if number else ""
                raise InvalidArgument(OWNER, argument, f"must be text, got {value!r}{hint}")
        require_choice(OWNER, "label_bits", label_bits, (8, 16))
        require_choice(OWNER, "mismatch", mismatch, ("error", "resize", "skip"))
        require_choice(OWNER, "orphans", orphans, ("error", "skip"))
        require_choice(OWNER, "convert", convert, (None, "rgb"))
        self.classes = (
            load_class_map(classes, OWNER) if isinstance(classes, str) else ClassMap.of(classes, "in the config")
        )
        self.layout = Layout(root, split, images, labels)
        self.has_labels = labels is not None
        self._label_map = _label_map(Path(root, LABEL_MAP)) if self.has_labels else None
        self._decoder = LabelDecoder(self.classes, label_bits, self._label_map)
        self._label_bits, self._mismatch, self._convert = label_bits, mismatch, convert
        self._images, self._labels = self.layout.list_images(), self.layout.list_labels()
        self.orphans = self.layout.orphans(self._images, self._labels)
        if self.orphans and orphans == "error":
            more = f" ({len(self.orphans)} such files)" if len(self.orphans) > 1 else ""
            raise UserError(self.orphans[0] + more)
        self.ids = [image_id for image_id in self._images if image_id in self._labels or not self.has_labels]
        if not self.ids:
            raise UserError(f"{root}: no image has a label; {self.orphans[0]}")
        self._other_suffixes = self.layout.left_out(self._images, self._labels)
        self._fingerprint: str | None = None
        self._content: str | None = None
        self._skipped: list[str] = []
        self.compares_labels = mismatch == "skip" and self.has_labels
        if self.compares_labels:
            self._skipped = self._mismatches()
            self.ids = [image_id for image_id in self.ids if image_id not in set(self._skipped)]
        for note in self._left_out():
            rank_zero_warn(note)

    def image(self, index: int) -> UInt8Array:
        """RGB image ``(H, W, 3)`` uint8. Raises UserError if the file is no readable 8-bit RGB image."""
        return read_image(self.files(index)[0], convert=self._convert == "rgb", key=self._key("convert"))

    def label(self, index: int) -> UInt8Array:
        """Truth ``(H, W)`` uint8. Raises UserError if there is none, or it does not fit the image or the class map."""
        image, path = self.files(index)
        if path is None:
            raise UserError(f"{image}: its data set has no labels (labels=None); give their pattern to use the truth")
        stored, size = read_label(path, self._label_bits, self._key("label_bits")), self.size(index)
        if stored.shape != size:
            self._require_resizable(image, path, stored.shape, size)
        mapped = self._map(stored, path)
        return mapped if mapped.shape == size else resize_mask(mapped, size)

    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)`` from the image's header."""
        return read_size(self.files(index)[0])

    def files(self, index: int) -> tuple[Path, Path | None]:
        """The files of the image and of its label; None where the data set has no labels."""
        return self._images[self.ids[index]], self._labels.get(self.ids[index])

    def check(self, labels: bool = True) -> None:
        """Decode every image (and label) once, in threads and with a progress bar; the first fault is raised."""
        labels = labels and self.has_labels
        differs = self._map_indices(lambda index: self._check_one(index, labels), "checking")
        if any(differs):
            rank_zero_warn(self._differing("labels resized", self._where(differs)))

    def fingerprint(self) -> str:
        """SHA-256 of the class map, the options, and the path, size and modification time of every file."""
        if self._fingerprint is None:
            options = (self.layout.split, self.layout.images, self.layout.labels, *self._meaning())
            digest = hashlib.sha256(repr((options, READING_VERSION)).encode())
            for image_id in self.ids:
                for path in (self._images[image_id], self._labels.get(image_id)):
                    digest.update(repr(path and self._state(path)).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def digests(self, kind: Literal["images", "labels"]) -> dict[str, str] | None:
        """The first half of each file's SHA-256 by its path below the root; read in threads."""
        if kind == "labels" and not self.has_labels:
            return None
        paths = [path for path in (self.files(index)[kind == "labels"] for index in range(len(self))) if path]
        names = [os.path.relpath(path, self.layout.root).replace(os.sep, "/") for path in paths]
        digests = self._map_indices(lambda index: _sha256(paths[index])[:32], f"hashing {kind} in")
        found = dict(zip(names, digests, strict=True))
        if kind == "labels" and self._label_map:
            found[LABEL_MAP] = hashlib.sha256(self._label_map[1]).hexdigest()[:32]
        return found

    def content(self) -> str:
        """SHA-256 of the class map and of the id and the files of every image; read once, in threads."""
        if self._content is None:
            digest = hashlib.sha256(repr(self._meaning()).encode())
            for image_id, files in zip(self.ids, self._map_indices(self._digests, "hashing"), strict=True):
                digest.update(repr((image_id, files)).encode())
            self._content = digest.hexdigest()
        return self._content

    def notes(self) -> list[str]:
        """One line for each kind of file that is left out, resized or turned, and for each doubt about the classes."""
        resized = self._mismatches() if self._mismatch == "resize" and self.has_labels else []
        turned = self._where(self._map_indices(lambda index: is_turned(self.files(index)[0]), "looking for EXIF in"))
        lines = [*self.classes.doubts(), *self._left_out()]
        if resized:
            lines.append(self._differing("labels resized", resized))
        if turned:
            lines.append(
                f"{self.layout.root}: {len(turned)} of {len(self)} images have an EXIF orientation and are turned "
                f"upright when they are read: {_shortened(turned)}"
            )
        return lines

    def _key(self, argument: str) -> str:
        return f"{self.config_key}.{argument}" if self.config_key else argument

    def _meaning(self) -> tuple[object, ...]:
        """What decides, next to the files, which pixels are read."""
        return (self.classes.as_dict(), self._label_map, self._label_bits, self._mismatch, self._convert)

    def _digests(self, index: int) -> list[str]:
        return [_sha256(path) for path in self.files(index) if path]

    def _state(self, path: Path) -> tuple[str, int, int]:
        try:
            state = os.stat(path)
        except OSError as error:
            raise unreadable(path, error) from error
        return os.path.relpath(path, self.layout.root), state.st_size, state.st_mtime_ns

    def _check_one(self, index: int, labels: bool) -> bool:
        self.image(index)
        if labels:
            self.label(index)
        return labels and self._differs(index)

    def _differs(self, index: int) -> bool:
        path = self.files(index)[1]
        return path is not None and read_size(path) != self.size(index)

    def _mismatches(self) -> list[str]:
        return self._where(self._map_indices(self._differs, "comparing sizes in"))

    def _where(self, flags: Sequence[bool]) -> list[str]:
        return [image_id for image_id, flag in zip(self.ids, flags, strict=True) if flag]

    def _left_out(self) -> list[str]:
        lines = [*self._other_suffixes]
        if self.orphans:
            lines.append(
                f"{self.layout.root}: {len(self.orphans)} files without partner are left out; {self.orphans[0]}"
            )
        if self._skipped:
            lines.append(self._differing("left out", self._skipped))
        return lines

    def _differing(self, what: str, ids: Sequence[str]) -> str:
        return (
            f"{self.layout.root}: {what} where image and label differ in size, {len(ids)} of "
            f"{len(self) + len(self._skipped)}: {_shortened(ids)}"
        )

    def _map_indices(self, work: Callable[[int], T], title: str) -> list[T]:
        with ThreadPoolExecutor() as pool:
            results = pool.map(work, range(len(self)))
            title = f"{title} {self.layout.root}"
            return list(tqdm(results, total=len(self), desc=title, unit="image", disable=not leads()))

    def _require_resizable(self, image: Path, path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
        sizes = f"label is {found[1]}x{found[0]}, but its image {image.name} is {size[1]}x{size[0]}"
        if found == size[::-1] and is_turned(image):
            raise UserError(f"{path}: {sizes} once turned as its EXIF says; turn the label too, or remove the EXIF")
        if self._mismatch != "resize":
            fix = f"give both one size, or set {self._key('mismatch')}=resize or skip"
            raise UserError(f"{path}: {sizes}; {fix}")

    def _map(self, stored: StoredLabel, path: Path) -> UInt8Array:
        if self._label_bits == 8 and stored.palette is None and not stored.colored:
            self._require_ids_of_8_bits(path)
        mapped = self._decoder.decode(stored, path)
        unknown = mapped < 0
        if unknown.any():
            self._refuse_unknown(path, stored.at(unknown))
        return mapped.astype(np.uint8)

    def _require_ids_of_8_bits(self, path: Path) -> None:
        for name, ids in zip(self.classes.names, self.classes.ids, strict=True):
            if ids and min(ids) > 255:
                raise UserError(
                    f"{path}: label has 8 bits, which cannot hold the ids {list(ids)} of {name} in "
                    f"{self.classes.source}; correct the ids, or set {self._key('label_bits')}=16 for labels of 16 bits"
                )

    def _refuse_unknown(self, path: Path, stored: StoredLabel) -> None:
        count, listed = len(stored.values), self._decoder.unknown(stored)
        if not stored.colored:
            raise UserError(
                f"{path}: {count} pixels hold ids that the class map {self.classes.source} does not name: {listed}; "
                "add them to the ids of a class or to ignore"
            )
        fix = f"give them to a class there, or add them to the ignore_colors of {self.classes.source}"
        if (stored.values == stored.values[:, :1]).all() or not stored.values[:, 1:].any():
            fix += "; if the first channel holds the ids, save it alone"
        raise UserError(
            f"{path}: {count} pixels have colours that {self._decoder.color_source} does not name: {listed}; {fix}"
        )


def _label_map(path: Path) -> tuple[str, bytes] | None:
    return (str(path), read_bounded(path)) if path.is_file() else None


def _shortened(ids: Sequence[str]) -> str:
    return ", ".join(ids[:10]) + (", ..." if len(ids) > 10 else "")


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}; check the path and its permissions") from error
