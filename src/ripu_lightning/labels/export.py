"""Masks for other programs: PNG files that say what their numbers mean, or one COCO file with run lengths."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from ripu_lightning.class_map import ClassMap
from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, replacing
from ripu_lightning.labels.answers import VOID, UInt8Array
from ripu_lightning.mask_values import Values, file_ids, mark, unlabelled_id, void_id

MaskNumbers = UInt8Array | npt.NDArray[np.uint16]
_NOTE = "the label store itself is untouched"


def write_labels(
    folder: Path,
    images: Iterable[str],
    mask: Callable[[str], UInt8Array],
    query_round: Callable[[str], npt.NDArray[np.uint16]],
    classes: ClassMap,
    values: Literal["id", "index"],
) -> None:
    """Write a store's labels of each of ``images`` by :func:`write_masks`.

    Args:
        folder: made if missing.
        images: image ids.
        mask: :meth:`LabelStore.mask`.
        query_round: :meth:`LabelStore.query_round`.
        classes: of the store.
        values: ``id`` writes the file ids of the classes, :func:`~ripu_lightning.mask_values.void_id` for void pixels
            and :func:`~ripu_lightning.mask_values.unlabelled_id` for those that were never queried; ``index`` writes
            class indices, and 255 for both.

    Raises:
        UserError: as :func:`write_masks`; or a class has no file id.
    """
    table: MaskNumbers = np.arange(256, dtype=np.uint8)
    unlabelled, known = VOID, None
    if values == "id":
        ids, unlabelled, known = file_ids(classes), unlabelled_id(classes), classes
        table = np.zeros(256, dtype=ids.dtype)
        table[: len(ids)], table[VOID] = ids, void_id(classes)

    def numbers(image_id: str) -> MaskNumbers:
        found: MaskNumbers = table[mask(image_id)]
        found[query_round(image_id) == 0] = unlabelled
        return found

    write_masks(folder, images, numbers, values, unlabelled if known else None, classes=known)


def write_masks(
    folder: Path,
    images: Iterable[str],
    mask: Callable[[str], MaskNumbers],
    values: Values,
    unlabelled: int | None = None,
    palette: UInt8Array | None = None,
    classes: ClassMap | None = None,
) -> None:
    """Write ``mask(image id)`` ``(H, W)`` as ``<folder>/<image id>.png`` for each of ``images``.

    Args:
        folder: made if missing; an id's ``/`` become subfolders.
        images: image ids.
        mask: gives the mask of an image id, uint8, or uint16 for a PNG of 16 bits.
        values: what its numbers are; the file says so in a text chunk that readers check.
        unlabelled: the number of pixels that nobody labelled, if there may be any.
        palette: ``(256, 3)`` uint8 colours for viewers; the pixel values stay as they are.
        classes: whose file ids they are, so that readers with another class map refuse the file.

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
            picture.save(file, format="PNG", pnginfo=mark(values, unlabelled, classes))


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


def write_coco(
    path: Path,
    classes: Sequence[str],
    masks: Iterable[tuple[str, UInt8Array]],
    file_names: Mapping[str, str] | None = None,
) -> None:
    """Write an annotation for each class of each image; pixels without a class are in none.

    Args:
        path: the JSON file; its folder is made if missing.
        classes: names by index; the category's id is one more, because many programs reserve 0 for the background.
        masks: image ids and masks ``(H, W)`` uint8, one at a time.
        file_names: image id -> path of the image's file below the images' folder; by default the id.

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
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    with replacing(path, _NOTE) as file, explained(path, _NOTE):
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": ['.encode())
        for number, entry in enumerate(_annotations(coder, images, masks, file_names or {}), start=1):
            line = json.dumps({"id": number, **entry})
            file.write(f"{',' if number > 1 else ''}\n{line}".encode())
        file.write(f'],\n"images": {json.dumps(images)}}}\n'.encode())


def _annotations(
    coder: ModuleType,
    images: list[dict[str, Any]],
    masks: Iterable[tuple[str, UInt8Array]],
    file_names: Mapping[str, str],
) -> Iterator[dict[str, Any]]:
    """The annotations of all images, which are appended to ``images`` as they come."""
    for image_id, mask in masks:
        height, width = mask.shape
        name = file_names.get(image_id, image_id)
        images.append({"id": len(images) + 1, "file_name": name, "height": height, "width": width})
        for index in np.unique(mask[mask != VOID]).tolist():
            runs = coder.encode(np.asfortranarray(mask == index, dtype=np.uint8))
            yield {
                "image_id": len(images),
                "category_id": index + 1,
                "segmentation": {"size": [height, width], "counts": runs["counts"].decode("ascii")},
                "area": int(coder.area(runs)),
                "bbox": coder.toBbox(runs).tolist(),
                "iscrowd": 0,
            }
