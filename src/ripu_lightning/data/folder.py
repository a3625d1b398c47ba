"""A data set from a folder of images and labels and one class map YAML; no Python needed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from tqdm import tqdm

from ripu_lightning.data.classes import load_class_map
from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.errors import UserError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LABEL_SUFFIXES = {".png"}


class FolderDataset(SegmentationDataset):
    """Images ``ROOT/images/SPLIT/**/NAME.jpg|png|…`` and labels ``ROOT/labels/SPLIT/**/NAME.png``.

    Images are 8-bit RGB; labels are 8-bit with one channel (or a palette), holding the file ids of the class map.
    The path below the split's folder, without suffix, is the image's id.

    Args:
        root: the folder that holds ``images`` and ``labels``.
        split: for example ``train``.
        classes: a built-in class map's name, or the path of a YAML (see :func:`load_class_map`).

    Raises:
        UserError: no such folder or class map, no images, an image without label or a label without image.
    """

    def __init__(self, root: str, split: str, classes: str) -> None:
        self.classes = load_class_map(classes)
        self._lookup = self.classes.lookup()
        images_folder, labels_folder = Path(root) / "images" / split, Path(root) / "labels" / split
        images, labels = _list(images_folder, IMAGE_SUFFIXES), _list(labels_folder, LABEL_SUFFIXES)
        _refuse_orphans("image without label", images, labels, labels_folder)
        _refuse_orphans("label without image", labels, images, images_folder)
        self.ids = sorted(images)
        self._images = [images[image_id] for image_id in self.ids]
        self._labels = [labels[image_id] for image_id in self.ids]

    def image(self, index: int) -> UInt8Array:
        """RGB image ``(H, W, 3)`` uint8. Raises UserError if the file is no readable 8-bit RGB image."""
        path = self._images[index]
        return _read(path, lambda picture: _require_rgb(picture, path))

    def label(self, index: int) -> UInt8Array:
        """Truth ``(H, W)`` uint8. Raises UserError if the file does not fit the image or the class map."""
        path = self._labels[index]
        stored = _read(path, lambda picture: _require_single_channel(picture, path))
        height, width = self.size(index)
        if stored.shape != (height, width):
            raise UserError(
                f"{path}: label is {stored.shape[1]}x{stored.shape[0]}, but its image {self._images[index].name} is "
                f"{width}x{height}; label and image must have one size"
            )
        mapped = self._lookup[stored]
        if (mapped < 0).any():
            self._refuse_unknown_ids(path, stored[mapped < 0])
        return mapped.astype(np.uint8)

    def size(self, index: int) -> tuple[int, int]:
        """``(H, W)`` from the image's header."""
        with _open(self._images[index]) as picture:
            return picture.height, picture.width

    def check(self, labels: bool = True) -> None:
        """Decode every image (and label) once, in threads and with a progress bar; the first fault is raised."""
        with ThreadPoolExecutor() as pool:
            checks = pool.map(lambda index: self._check_one(index, labels), range(len(self)))
            for _ in tqdm(checks, total=len(self), desc=f"checking {self._images[0].parent}", unit="image"):
                pass

    def _check_one(self, index: int, labels: bool) -> None:
        self.image(index)
        if labels:
            self.label(index)

    def _refuse_unknown_ids(self, path: Path, values: UInt8Array) -> None:
        unknown = ", ".join(map(str, np.unique(values)))
        raise UserError(
            f"{path}: {values.size} pixels hold ids that the class map ({self.classes.source}) does not name: "
            f"{unknown}; add them to a class's ids or to ignore"
        )


def _list(folder: Path, suffixes: set[str]) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: wrong root or split? Expected ROOT/images/SPLIT and ROOT/labels/SPLIT")
    entries = sorted(folder.rglob("*"))
    links = [path for path in entries if path.is_symlink() and path.is_dir()]
    if links:
        raise UserError(f"{links[0]}: a link to a folder is not followed; move the folder here or link its files")
    files = [path for path in entries if path.suffix.lower() in suffixes and not path.is_dir()]
    found = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    if not found:
        raise UserError(f"no images ({', '.join(sorted(suffixes))}) in {folder}: wrong root or split?")
    if len(found) < len(files):
        twice = next(path for path in files if path not in found.values())
        raise UserError(f"{twice}: another file in {folder} has the same name but for the suffix; keep one of them")
    return found


def _refuse_orphans(fault: str, files: dict[str, Path], partners: dict[str, Path], folder: Path) -> None:
    orphans = sorted(files.keys() - partners.keys())
    if orphans:
        more = f" ({len(orphans)} such files in all)" if len(orphans) > 1 else ""
        missing = f"{folder / orphans[0]}.*"
        raise UserError(f"{fault}: {files[orphans[0]]}; there is no {missing}: add it or remove the other{more}")


def _open(path: Path) -> ImageFile:
    try:
        return Image.open(path)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: can not be read as an image ({error}); replace or remove it") from error


def _read(path: Path, require: Callable[[ImageFile], None]) -> UInt8Array:
    with _open(path) as picture:
        require(picture)
        try:
            return np.array(picture, dtype=np.uint8)
        except (OSError, SyntaxError, ValueError) as error:  # truncated or corrupt beyond the header
            raise UserError(f"{path}: can not be decoded ({error}); replace or remove it") from error


def _packing(picture: ImageFile) -> str:
    # For example "RGB;16B" or "L;4". Pillow would scale such samples to 8 bits without a word.
    return str(picture.tile[0][3]) if picture.tile else ""


def _require_rgb(picture: ImageFile, path: Path) -> None:
    if picture.mode != "RGB":
        channels = len(picture.getbands())
        raise UserError(
            f"{path}: image has {channels} channel(s) in mode {picture.mode}; expected 3 (8-bit RGB): convert it"
        )
    if ";16" in _packing(picture):
        raise UserError(f"{path}: image has 16 bits a channel; expected 8: convert it")


def _require_single_channel(picture: ImageFile, path: Path) -> None:
    if picture.mode.startswith("I") or picture.mode == "F":
        raise UserError(f"{path}: label is 16-bit or wider (mode {picture.mode}); expected 8 bits: convert it")
    if picture.mode not in {"L", "P"}:
        channels = len(picture.getbands())
        raise UserError(
            f"{path}: label has {channels} channel(s) in mode {picture.mode}; expected one 8-bit channel of class ids"
        )
    if _packing(picture).startswith("L;"):
        raise UserError(f"{path}: label has fewer than 8 bits a pixel ({_packing(picture)}); save it with 8")
