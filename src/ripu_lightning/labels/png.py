"""Masks as 8-bit PNG files, for viewers and for other programs."""

from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, replacing
from ripu_lightning.labels.answers import UInt8Array

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
    """``<folder>/<image id>.png``. Raises UserError where that would lie outside the folder."""
    parts = image_id.split("/")
    plain = all(part not in ("", ".", "..") and "\0" not in part for part in parts)
    path = folder / PurePosixPath(f"{image_id}.png")
    # A symbolic link below the folder may lead out of it too.
    if not plain or not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"image id {image_id!r} would be written outside {folder}: rename the image, or export elsewhere"
        )
    return path
