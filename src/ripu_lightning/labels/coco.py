"""Masks as one COCO file with compressed run lengths, for programs that read that format."""

import json
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, replacing
from ripu_lightning.labels.answers import VOID, UInt8Array

_NOTE = "the label store itself is untouched"


def write_coco(path: Path, classes: Sequence[str], masks: Iterable[tuple[str, UInt8Array]]) -> None:
    """Write an annotation for each class of each image; void pixels and those never asked are in none.

    Args:
        path: the JSON file; its folder is made if missing.
        classes: names by index, which is the category's id.
        masks: image ids, which become file names, and masks ``(H, W)`` uint8, one at a time.

    Raises:
        UserError: pycocotools is not installed, or the file cannot be written.
    """
    coder = _pycocotools()
    with explained(path, _NOTE):
        path.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    categories = [{"id": index, "name": name} for index, name in enumerate(classes)]
    with replacing(path, _NOTE) as file, explained(path, _NOTE):
        file.write(f'{{"categories": {json.dumps(categories)},\n"annotations": ['.encode())
        for entry in _annotations(coder, images, masks):
            file.write(f"{',' if entry['id'] > 1 else ''}\n{json.dumps(entry)}".encode())
        file.write(f'],\n"images": {json.dumps(images)}}}\n'.encode())


def _annotations(
    coder: ModuleType, images: list[dict[str, Any]], masks: Iterable[tuple[str, UInt8Array]]
) -> Iterator[dict[str, Any]]:
    """The annotations of all images, which are appended to ``images`` as they come."""
    number = 0
    for image_id, mask in masks:
        height, width = mask.shape
        images.append({"id": len(images) + 1, "file_name": image_id, "height": height, "width": width})
        for category in np.unique(mask[mask != VOID]).tolist():
            number += 1
            runs = coder.encode(np.asfortranarray(mask == category, dtype=np.uint8))
            yield {
                "id": number,
                "image_id": len(images),
                "category_id": category,
                "segmentation": {"size": [height, width], "counts": runs["counts"].decode("ascii")},
                "area": int(coder.area(runs)),
                "bbox": coder.toBbox(runs).tolist(),
                "iscrowd": 0,
            }


def _pycocotools() -> ModuleType:
    try:
        return import_module("pycocotools.mask")
    except ModuleNotFoundError as error:
        raise UserError(
            "--format coco: package pycocotools is not installed; run pip install 'ripu-lightning[coco]'"
        ) from error
