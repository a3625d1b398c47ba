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

LabelArray = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


def read_image(path: Path) -> UInt8Array:
    """RGB image ``(H, W, 3)`` uint8; a fourth channel (alpha) is left out.

    Raises:
        UserError: no readable file of three or four 8-bit channels.
    """
    return np.ascontiguousarray(_read(path, lambda picture: _require_rgb(picture, path))[..., :3])


def read_label(path: Path, bits: int = 8) -> LabelArray:
    """File ids ``(H, W)``, as stored: uint8, or uint16 where ``bits`` is 16 (then of the first channel).

    Raises:
        UserError: no readable file of that kind.
    """
    if bits == 16:
        return _read_16_bit(path)
    return _read(path, lambda picture: _require_single_channel(picture, path))


def read_size(path: Path) -> tuple[int, int]:
    """``(H, W)`` from the file's header. Raises UserError if it can not be read."""
    with _open(path) as picture:
        return picture.height, picture.width


def unreadable(path: Path, error: Exception) -> UserError:
    """The line for a file that can not be opened."""
    return UserError(f"{path}: can not be read as an image ({error}); replace or remove it")


def _open(path: Path) -> ImageFile:
    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise unreadable(path, error) from error


def _undecodable(path: Path, reason: object) -> UserError:
    return UserError(f"{path}: can not be decoded ({reason}); replace or remove it")


def _read(path: Path, require: Callable[[ImageFile], None]) -> UInt8Array:
    with _open(path) as picture:
        require(picture)
        try:
            return np.array(picture, dtype=np.uint8)
        except (OSError, SyntaxError, ValueError) as error:  # truncated or corrupt beyond the header
            raise _undecodable(path, error) from error


def _read_16_bit(path: Path) -> npt.NDArray[np.uint16]:
    # Pillow cuts colours of 16 bits to 8 without a word; OpenCV keeps them, but takes a truncated file for a whole one.
    with _open(path) as picture:
        _require_16_bit(picture, path)
    content = path.read_bytes()
    try:
        with Image.open(BytesIO(content)) as picture:
            picture.verify()
        stored = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, SyntaxError, ValueError, cv2.error) as error:
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


def _require_single_channel(picture: ImageFile, path: Path) -> None:
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
