"""Images and labels from files; every error is one line that names the file."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.errors import UserError
from ripu_lightning.untrusted import read_bounded

LabelArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are opened; for some others, such as PostScript, Pillow starts another program."""
LARGEST = 2**30
"""Bytes of a file; Pillow opens no image that needs more."""


def read_image(path: Path) -> UInt8Array:
    """RGB image ``(H, W, 3)`` uint8; a fourth channel (alpha) is dropped.

    Raises:
        UserError: not a readable file of three or four 8-bit channels.
    """
    pixels: UInt8Array = _decode(_content(path), path, _require_rgb)
    return np.ascontiguousarray(pixels[..., :3])


def read_label(path: Path, bits: int = 8) -> LabelArray:
    """Stored ids ``(H, W)``: uint8, or uint16 of the first channel where ``bits`` is 16.

    Raises:
        UserError: not a readable file of that kind.
    """
    content = _content(path)
    # Pillow silently cuts colours of 16 bits to 8. OpenCV keeps them, but does not notice a truncated file.
    read = (lambda _: _first_channel(content)) if bits == 16 else _pixels
    stored: LabelArray = _decode(content, path, _require_16_bit if bits == 16 else _require_single_channel, read=read)
    return stored


def decode_label(content: bytes, name: str | Path, size: tuple[int, int]) -> UInt8Array:
    """Stored ids ``(H, W)`` uint8 of a PNG, decoded only if its header says ``size`` ``(H, W)``.

    Args:
        content: of the file.
        name: what an error names.
        size: the expected size.

    Raises:
        UserError: another size, or not a complete PNG of one 8-bit channel.
    """

    def require(picture: ImageFile) -> None:
        if (picture.height, picture.width) != size:
            found = f"is {picture.width}x{picture.height}, but its image is {size[1]}x{size[0]}"
            raise UserError(f"{found}; save the answers in the image's size")
        _require_single_channel(picture)

    labels: UInt8Array = _decode(content, name, require, ("PNG",))
    return labels


def read_size(path: Path) -> tuple[int, int]:
    """``(H, W)`` from the file's header. Raises UserError if it cannot be read."""
    with _open(path, path) as picture:
        return picture.height, picture.width


def verify(content: bytes) -> None:
    """Compare the checksums of a PNG; decoding alone misses one flipped bit in a hundred.

    Raises:
        Exception: of nearly any kind.
    """
    with Image.open(BytesIO(content), formats=FORMATS) as picture:
        picture.verify()


def unreadable(name: str | Path, error: Exception, formats: tuple[str, ...] = FORMATS) -> UserError:
    """The error for a file that cannot be opened."""
    unknown = isinstance(error, UnidentifiedImageError)
    reason = f"it is not a complete {', '.join(formats)}" if unknown else " ".join(str(error).split())
    return UserError(f"{name}: cannot be read as an image ({reason}); replace or remove it")


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, LARGEST)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise unreadable(path, error.__cause__) from error
        raise


def _open(source: Path | BytesIO, name: str | Path, formats: tuple[str, ...] = FORMATS) -> ImageFile:
    try:
        return Image.open(source, formats=formats)
    except Exception as error:  # a damaged header makes the readers raise nearly anything
        raise unreadable(name, error, formats) from error


def _pixels(picture: ImageFile) -> UInt8Array:
    return np.array(picture, dtype=np.uint8)


def _first_channel(content: bytes) -> npt.NDArray[np.uint16]:
    stored = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError("broken data stream")
    first = stored if stored.ndim == 2 else stored[..., 2]  # OpenCV's order is blue, green, red
    return np.ascontiguousarray(first, dtype=np.uint16)


def _decode(
    content: bytes,
    name: str | Path,
    require: Callable[[ImageFile], None],
    formats: tuple[str, ...] = FORMATS,
    read: Callable[[ImageFile], LabelArray] = _pixels,
) -> Any:
    """What ``read`` gives of a picture that ``require`` accepts."""
    with _open(BytesIO(content), name, formats) as picture:
        try:
            require(picture)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        try:
            verify(content)
            return read(picture)
        except Exception as error:  # truncated or corrupt beyond the header
            reason = " ".join(str(error).split())
            raise UserError(f"{name}: cannot be decoded ({reason}); replace or remove it") from error


def _packing(picture: ImageFile) -> str:
    # For example "RGB;16B" or "L;4". Pillow silently scales such samples to 8 bits.
    packing = picture.tile[0][3] if picture.tile else ""
    return str(packing[0] if isinstance(packing, tuple) else packing)  # TIFF gives further values


def _require_rgb(picture: ImageFile) -> None:
    if picture.mode not in {"RGB", "RGBA"}:
        found = f"image has {len(picture.getbands())} channel(s) in mode {picture.mode}"
        raise UserError(f"{found}; expected 3 (8-bit RGB): convert it")
    if ";16" in _packing(picture):
        raise UserError("image has 16 bits a channel; expected 8: convert it")


def _require_16_bit(picture: ImageFile) -> None:
    if ";16" not in _packing(picture):
        found = f"label has no 16-bit channels (mode {picture.mode})"
        raise UserError(f"{found}; expected a 16-bit PNG: set label_bits to 8")


def _require_single_channel(picture: ImageFile) -> None:
    mode, packing = picture.mode, _packing(picture)
    if mode.startswith("I") or mode == "F" or ";16" in packing:
        hint = "convert it, or set label_bits to 16 if its first channel holds the ids"
        raise UserError(f"label is 16-bit or wider (mode {mode}); expected 8 bits: {hint}")
    if mode not in {"L", "P"}:
        found = f"label has {len(picture.getbands())} channel(s) in mode {mode}"
        raise UserError(f"{found}; expected one 8-bit channel of class ids")
    if packing.startswith("L;"):
        raise UserError(f"label has fewer than 8 bits a pixel ({packing}); save it with 8")
