"""Images and labels from files, with one line that names the file for every fault."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

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
"""What is opened; for some others, as PostScript, Pillow would start another program."""
LARGEST = 2**30
"""Bytes of a file; Pillow opens no picture that would need more."""


def read_image(path: Path) -> UInt8Array:
    """RGB image ``(H, W, 3)`` uint8; a fourth channel (alpha) is left out.

    Raises:
        UserError: no readable file of three or four 8-bit channels.
    """
    content = _content(path)
    return np.ascontiguousarray(_decode(content, path, lambda picture: _require_rgb(picture, path))[..., :3])


def read_label(path: Path, bits: int = 8) -> LabelArray:
    """File ids ``(H, W)``, as stored: uint8, or uint16 where ``bits`` is 16 (then of the first channel).

    Raises:
        UserError: no readable file of that kind.
    """
    content = _content(path)
    if bits == 16:
        return _decode_16_bit(content, path)
    return _decode(content, path, lambda picture: _require_single_channel(picture, path))


def decode_label(content: bytes, name: str | Path, size: tuple[int, int]) -> UInt8Array:
    """File ids ``(H, W)`` uint8 of a PNG from elsewhere, decoded only if its header says ``size``.

    Args:
        content: of the file.
        name: begins the line of an error.
        size: ``(H, W)``.

    Raises:
        UserError: another size, or no whole PNG of one 8-bit channel.
    """

    def require(picture: ImageFile) -> None:
        if (picture.height, picture.width) != size:
            raise UserError(
                f"{name}: is {picture.width}x{picture.height}, but its image is {size[1]}x{size[0]}; "
                "save the answers in the image's size"
            )
        _require_single_channel(picture, name)

    return _decode(content, name, require, ("PNG",))


def read_size(path: Path) -> tuple[int, int]:
    """``(H, W)`` from the file's header. Raises UserError if it can not be read."""
    with _open(path, path) as picture:
        return picture.height, picture.width


def verify(content: bytes) -> None:
    """Compare the check sums of a PNG; decoding alone lets one flipped bit in a hundred pass, with other pixels.

    Raises:
        Exception: of nearly any kind.
    """
    with Image.open(BytesIO(content), formats=FORMATS) as picture:
        picture.verify()


def unreadable(name: str | Path, error: Exception, formats: tuple[str, ...] = FORMATS) -> UserError:
    """The line for a file that can not be opened."""
    unknown = isinstance(error, UnidentifiedImageError)
    reason = f"it is no whole {', '.join(formats)}" if unknown else " ".join(str(error).split())
    return UserError(f"{name}: can not be read as an image ({reason}); replace or remove it")


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
    except Exception as error:  # a damaged header makes the formats' readers raise nearly anything
        raise unreadable(name, error, formats) from error


def _undecodable(name: str | Path, reason: object) -> UserError:
    return UserError(f"{name}: can not be decoded ({' '.join(str(reason).split())}); replace or remove it")


def _decode(
    content: bytes, name: str | Path, require: Callable[[ImageFile], None], formats: tuple[str, ...] = FORMATS
) -> UInt8Array:
    with _open(BytesIO(content), name, formats) as picture:
        require(picture)
        try:
            verify(content)
            return np.array(picture, dtype=np.uint8)
        except Exception as error:  # truncated or corrupt beyond the header
            raise _undecodable(name, error) from error


def _decode_16_bit(content: bytes, path: Path) -> npt.NDArray[np.uint16]:
    # Pillow cuts colours of 16 bits to 8 without a word; OpenCV keeps them, but takes a truncated file for a whole one.
    with _open(BytesIO(content), path) as picture:
        _require_16_bit(picture, path)
    try:
        verify(content)
        stored = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except Exception as error:
        raise _undecodable(path, error) from error
    if stored is None:
        raise _undecodable(path, "broken data stream")
    first = stored if stored.ndim == 2 else stored[..., 2]  # OpenCV's order is blue, green, red
    return np.ascontiguousarray(first, dtype=np.uint16)


def _packing(picture: ImageFile) -> str:
    # For example "RGB;16B" or "L;4". Pillow would scale such samples to 8 bits without a word.
    packing = picture.tile[0][3] if picture.tile else ""
    return str(packing[0] if isinstance(packing, tuple) else packing)  # TIFF gives more beside it


def _require_rgb(picture: ImageFile, path: Path) -> None:
    if picture.mode not in {"RGB", "RGBA"}:
        channels = len(picture.getbands())
        raise UserError(
            f"{path}: image has {channels} channel(s) in mode {picture.mode}; expected 3 (8-bit RGB): convert it"
        )
    if ";16" in _packing(picture):
        raise UserError(f"{path}: image has 16 bits a channel; expected 8: convert it")


def _require_16_bit(picture: ImageFile, path: Path) -> None:
    if ";16" not in _packing(picture):
        raise UserError(
            f"{path}: label has no 16-bit channels (mode {picture.mode}); expected a 16-bit PNG: set label_bits to 8"
        )


def _require_single_channel(picture: ImageFile, path: str | Path) -> None:
    if picture.mode.startswith("I") or picture.mode == "F" or ";16" in _packing(picture):
        raise UserError(
            f"{path}: label is 16-bit or wider (mode {picture.mode}); expected 8 bits: "
            "convert it, or set label_bits to 16 if its first channel holds the ids"
        )
    if picture.mode not in {"L", "P"}:
        channels = len(picture.getbands())
        raise UserError(
            f"{path}: label has {channels} channel(s) in mode {picture.mode}; expected one 8-bit channel of class ids"
        )
    if _packing(picture).startswith("L;"):
        raise UserError(f"{path}: label has fewer than 8 bits a pixel ({_packing(picture)}); save it with 8")
