"""Masks for other programs: 8-bit PNG files, or one COCO file with compressed run lengths."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, replacing
from ripu_lightning.labels.answers import VOID, UInt8Array

_NOTE = "the label store itself is untouched"


def write_masks(
    folder: Path, images: Iterable[str], mask: Callable[[str], UInt8Array], palette: UInt8Array | None
) -> None:
    """Write ``mask(image id)`` ``(H, W)`` as ``<folder>/<image id>.png`` for each of ``images``.

    Args:
        folder: made if missing; an id's ``/`` become subfolders.
        images: image ids.
        mask: gives the mask of an image id.
        palette: ``(256, 3)`` uint8 colours for viewers; the pixel values stay as they are.

    Raises:
        ValueError: a palette of another shape or dtype.
        UserError: an image id that would leave the folder, or a file that cannot be written.
    """
    if palette is not None and (palette.shape != (256, 3) or palette.dtype != np.uint8):
        raise ValueError(f"palette must be uint8 (256, 3), not {palette.dtype.name} {palette.shape}")
    # All names are checked before the first file is written.
    for path, image_id in [(path_of(folder, image_id), image_id) for image_id in images]:
        with explained(path, _NOTE):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(mask(image_id))
        if palette is not None:
            picture.putpalette(palette.tobytes())
        with replacing(path, _NOTE) as file, explained(path, _NOTE):
            picture.save(file, format="PNG")


def path_of(folder: Path, image_id: str) -> Path:
    """``<folder>/<image id>.png``. Raises ``UserError`` where that would be outside the folder."""
    plain = all(part not in ("", ".", "..") and "\0" not in part for part in image_id.split("/"))
    path = folder / PurePosixPath(f"{image_id}.png")
    # A symbolic link below the folder may lead out of it too.
    if not plain or not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"image id {image_id!r} would be written outside {folder}: rename the image, or export elsewhere"
        )
    return path


def write_coco(path: Path, classes: Sequence[str], masks: Iterable[tuple[str, UInt8Array]]) -> None:
    """Write an annotation for each class of each image; pixels without a class are in none.

    Args:
        path: the JSON file; its folder is made if missing.
        classes: names by index, which is the category's id.
        masks: image ids, which become file names, and masks ``(H, W)`` uint8, one at a time.

    Raises:
        UserError: pycocotools is not installed, or the file cannot be written.
    """
    try:
        coder = import_module("pycocotools.mask")
    except ModuleNotFoundError as error:
        raise UserError(
            "--format coco: package pycocotools is not installed; run pip install 'ripu-lightning[coco]'"
        ) from error
    with explained(path, _NOTE):
        path.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    categories = [{"id": index, "name": name} for index, name in enumerate(classes)]
    with replacing(path, _NOTE) as file, explained(path, _NOTE):
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": ['.encode())
        for number, entry in enumerate(_annotations(coder, images, masks), start=1):
            line = json.dumps({"id": number, **entry})
            file.write(f"{',' if number > 1 else ''}\n{line}".encode())
        file.write(f'],\n"images": {json.dumps(images)}}}\n'.encode())


def _annotations(
    coder: ModuleType, images: list[dict[str, Any]], masks: Iterable[tuple[str, UInt8Array]]
) -> Iterator[dict[str, Any]]:
    """The annotations of all images, which are appended to ``images`` as they come."""
    for image_id, mask in masks:
        height, width = mask.shape
        images.append({"id": len(images) + 1, "file_name": image_id, "height": height, "width": width})
        for category in np.unique(mask[mask != VOID]).tolist():
            runs = coder.encode(np.asfortranarray(mask == category, dtype=np.uint8))
            yield {
                "image_id": len(images),
                "category_id": category,
                "segmentation": {"size": [height, width], "counts": runs["counts"].decode("ascii")},
                "area": int(coder.area(runs)),
                "bbox": coder.toBbox(runs).tolist(),
                "iscrowd": 0,
            }
