"""Images and labels from files; every error is one line that names the file."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from ripu_lightning.data import orientation
from ripu_lightning.data.color_masks import StoredLabel
from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.errors import UserError
from ripu_lightning.mask_values import class_names, require_file_ids
from ripu_lightning.untrusted import read_bounded

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are opened; for some others, such as PostScript, Pillow starts another program."""
LARGEST = 2**30
"""Bytes of a file."""
LARGEST_PIXELS = 2**28
"""Pixels of an image or label: 16384 x 16384."""
READING_VERSION = 1
"""Must be raised when a file gives other pixels than before: what was derived from it is then derived again."""

# Pillow warns of images above a third of this size, and refuses them above two thirds.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, LARGEST_PIXELS)
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # _open refuses such images


def read_image(path: Path, convert: bool = False, key: str = "convert") -> UInt8Array:
    """RGB image ``(H, W, 3)`` uint8, turned upright as its EXIF orientation says; a fourth channel (alpha) is dropped.

    Args:
        path: of the file.
        convert: also read grey, palette, CMYK and 16-bit files. Values of 16 bits are divided by 257 and rounded;
            colour profiles are not applied.
        key: of ``convert``, for errors.

    Raises:
        UserError: not a readable file, or one that needs ``convert``.
    """
    content = _content(path)

    def require(picture: ImageFile) -> None:
        _require_one_page(picture, "image", "is meant")
        if convert:
            return _require_convertible(picture)
        if _is_16_bit(picture) or picture.mode not in {"RGB", "RGBA"}:
            found = "16 bits a channel" if _is_16_bit(picture) else _channels(picture)
            raise UserError(f"image has {found}; expected 8-bit RGB: set {key}=rgb, or convert the file")

    def read(picture: ImageFile) -> UInt8Array:
        wide, stated = _is_16_bit(picture), orientation.of_header(picture)[1]
        if wide:
            pixels = _rgb_of_16_bits(_values_of_16_bits(picture, content, stated))
        else:
            pixels = np.array(picture if picture.mode in {"RGB", "RGBA"} else picture.convert("RGB"))[..., :3]
        return pixels if picture.format == "TIFF" else orientation.turn(pixels, stated)  # Pillow turns a TIFF

    image: UInt8Array = _decode(content, path, require, read)
    return np.ascontiguousarray(image)


def read_label(path: Path, bits: int = 8, key: str = "label_bits") -> StoredLabel:
    """Stored ids or colours of 8 bits; where ``bits`` is 16, ids of 16 bits, from the first channel.

    Args:
        path: of the file.
        bits: of an id, 8 or 16.
        key: of ``bits``, for errors.

    Raises:
        UserError: not a readable file of that kind.
    """
    return parse_label(_content(path), path, bits, key=key)


def parse_label(
    content: bytes,
    name: str | Path,
    bits: int,
    require: Callable[[ImageFile], None] = lambda _: None,
    formats: tuple[str, ...] = FORMATS,
    layer: bool = False,
    key: str = "label_bits",
) -> StoredLabel:
    """Stored ids or colours from the content of a label file, see :func:`read_label`.

    Args:
        content: of the file.
        name: what an error names.
        bits: of an id, 8 or 16.
        require: raises UserError for a picture that is not to be decoded.
        formats: of :data:`FORMATS`.
        layer: whether pixels may be transparent.
        key: of ``bits``, for errors.

    Raises:
        UserError: not a complete file of that kind.
    """

    def require_all(picture: ImageFile) -> None:
        require(picture)
        _require_label(picture, bits, key)
        _require_upright(orientation.of_header(picture)[1])

    def read(picture: ImageFile) -> StoredLabel:
        wide = bits == 16
        stored = StoredLabel(_first_channel(_values_of_16_bits(picture, content))) if wide else _stored(picture, layer)
        return replace(stored, unlabelled=require_file_ids(picture.info), names=class_names(picture.info))

    label: StoredLabel = _decode(content, name, require_all, read, formats)
    return label


def decode_label(content: bytes, name: str | Path, size: tuple[int, int], wide: bool = False) -> StoredLabel:
    """Stored ids or colours of a PNG of answers, decoded only if its header says ``size`` ``(H, W)``.

    Args:
        content: of the file.
        name: what an error names.
        size: the expected size.
        wide: whether ids may have 16 bits.

    Raises:
        UserError: another size, or not a complete PNG of that kind.
    """
    with _open(BytesIO(content), name, ("PNG",)) as opened:
        bits = 16 if wide and _is_16_bit(opened) else 8

    def require(picture: ImageFile) -> None:
        if (picture.height, picture.width) != size:
            found = f"is {picture.width}x{picture.height}, but its image is {size[1]}x{size[0]}"
            raise UserError(f"{found}; save the answers in the image's size")
        if _is_16_bit(picture) and not wide:
            raise UserError("is 16-bit or wider, but no id of the class map is above 255; save it with 8 bits")
        if _is_16_bit(picture) and len(picture.getbands()) > 1:
            raise UserError(f"has {_channels(picture)} of 16 bits; save one channel of ids, or colours of 8 bits")

    return parse_label(content, name, bits, require, ("PNG",), layer=True)


def read_size(path: Path) -> tuple[int, int]:
    """``(H, W)`` of the upright image, from the file's header. Raises UserError if it cannot be read."""
    return _header(path)[0]


def is_turned(path: Path) -> bool:
    """Whether the file says, by its EXIF orientation, that its pixels are to be turned or mirrored."""
    return _header(path)[1] != orientation.UPRIGHT


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


def _stored(picture: ImageFile, layer: bool) -> StoredLabel:
    pixels, hidden = np.array(picture, dtype=np.uint8), None
    palette = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3) if picture.mode == "P" else None
    has_alpha = picture.mode in {"LA", "RGBA"}
    if has_alpha or (layer and "transparency" in picture.info):
        alpha = pixels[..., -1] if has_alpha else np.array(picture.convert("RGBA"))[..., 3]
        hidden = alpha == 0
        refused = int(((alpha != 255) & ~(hidden & layer)).sum())
        if refused:
            raise UserError(f"{refused} pixels of the label are transparent; save it without an alpha channel")
    if has_alpha:
        pixels = pixels[..., 0] if picture.mode == "LA" else pixels[..., :3]
    return StoredLabel(np.ascontiguousarray(pixels), palette, colored=pixels.ndim == 3, hidden=hidden)


def _content(path: Path) -> bytes:
    if path.is_file() and path.stat().st_size > LARGEST:
        raise UserError(f"{path}: has more than {LARGEST:,} bytes; cut the image and its label into tiles")
    try:
        return read_bounded(path, LARGEST)
    except UserError as error:
        if isinstance(error.__cause__, OSError):
            raise unreadable(path, error.__cause__) from error
        raise


def _open(source: Path | BytesIO, name: str | Path, formats: tuple[str, ...] = FORMATS) -> ImageFile:
    try:
        picture = Image.open(source, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name) from error
    except Exception as error:  # a damaged header makes the readers raise nearly anything
        raise unreadable(name, error, formats) from error
    if picture.width * picture.height > LARGEST_PIXELS:
        picture.close()
        raise _too_large(name, f"{picture.width}x{picture.height}, ")
    return picture


def _too_large(name: str | Path, size: str = "") -> UserError:
    return UserError(
        f"{name}: has too many pixels ({size}more than {LARGEST_PIXELS:,}); cut the image and its label into tiles"
    )


def _header(path: Path) -> tuple[tuple[int, int], int]:
    with _open(path, path) as picture:
        try:
            return orientation.of_header(picture)
        except Exception as error:  # damaged metadata after the pixels
            raise unreadable(path, error) from error


def _decode(
    content: bytes,
    name: str | Path,
    require: Callable[[ImageFile], None],
    read: Callable[[ImageFile], Any],
    formats: tuple[str, ...] = FORMATS,
) -> Any:
    """What ``read`` gives of a picture that ``require`` accepts."""
    with _open(BytesIO(content), name, formats) as picture:
        try:
            require(picture)
            verify(content)
            return read(picture)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        except Exception as error:  # truncated or corrupt beyond the header
            reason = " ".join(str(error).split())
            raise UserError(f"{name}: cannot be decoded ({reason}); replace or remove it") from error


def _values_of_16_bits(picture: ImageFile, content: bytes, stated: int = orientation.UPRIGHT) -> npt.NDArray[np.uint16]:
    """``(H, W)``, or ``(H, W, channels)`` in OpenCV's order: blue, green, red, alpha."""
    if picture.mode.startswith("I;16"):
        return np.array(picture).astype(np.uint16)
    if picture.format == "TIFF":
        if stated != orientation.UPRIGHT:
            raise UserError("has 16-bit colours and an orientation, which cannot be read together; save it upright")
        picture.load()  # OpenCV does not notice a truncated file
    # Pillow silently cuts colours of 16 bits to 8.
    stored = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError("broken data stream")
    return np.asarray(stored, dtype=np.uint16)


def _first_channel(stored: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    if stored.ndim == 3 and stored.shape[2] == 4 and (stored[..., 3] != 2**16 - 1).any():
        raise UserError("pixels of the label are transparent; save it without an alpha channel")
    return np.ascontiguousarray(stored if stored.ndim == 2 else stored[..., 2])


def _rgb_of_16_bits(stored: npt.NDArray[np.uint16]) -> UInt8Array:
    scaled = ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=2) if scaled.ndim == 2 else scaled[..., 2::-1]


def _packing(picture: ImageFile) -> str:
    # For example "RGB;16B" or "L;4". Pillow silently scales such samples to 8 bits.
    packing = picture.tile[0][3] if picture.tile else ""
    return str(packing[0] if isinstance(packing, tuple) else packing)  # TIFF gives further values


def _is_16_bit(picture: ImageFile) -> bool:
    return ";16" in picture.mode or ";16" in _packing(picture)


def _channels(picture: ImageFile) -> str:
    count = len(picture.getbands())
    return f"{count} channel{'s' if count > 1 else ''} in mode {picture.mode}"


def _require_convertible(picture: ImageFile) -> None:
    if not _is_16_bit(picture) and picture.mode not in {
        "1",
        "L",
        "LA",
        "P",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "CMYK",
        "YCbCr",
    }:
        raise UserError(f"image has {_channels(picture)}, which has no fixed range; save it as 8-bit RGB")


def _require_upright(found: int) -> None:
    if found != orientation.UPRIGHT:
        raise UserError(
            f"label has the EXIF orientation {found}, which some programs obey and others do not; compare it with its "
            "image and save it without EXIF"
        )


def _require_one_page(picture: ImageFile, what: str, which: str) -> None:
    """Refuse animations and files of several pages; a phone's JPEG may hold previews after its one picture."""
    pages = getattr(picture, "n_frames", 1)
    if pages > 1 and picture.format != "MPO":
        raise UserError(f"{what} has {pages} pages; save the one that {which}")


def _require_label(picture: ImageFile, bits: int, key: str) -> None:
    mode, packing = picture.mode, _packing(picture)
    if picture.format in {"JPEG", "MPO"}:
        raise UserError("label is a JPEG, whose values are not exact; save labels as PNG, from the original")
    _require_one_page(picture, "label", "holds the classes")
    if mode in {"I", "F"}:
        raise UserError(f"label has 32 bits (mode {mode}); save it with 8 bits, or with 16 and set {key}=16")
    if bits == 16:
        if not _is_16_bit(picture):
            found = f"label has no 16-bit channels (mode {mode})"
            raise UserError(f"{found}; expected a 16-bit PNG: set {key}=8")
        return
    if ";16" in mode or ";16" in packing:
        hint = f"convert it, or set {key}=16 if its first channel holds the ids"
        raise UserError(f"label has 16 bits (mode {mode}); expected 8: {hint}")
    if mode not in {"1", "L", "LA", "P", "RGB", "RGBA"}:
        raise UserError(f"label has {_channels(picture)}; expected one 8-bit channel of class ids, or RGB colours")
    if packing.startswith("L;"):
        raise UserError(f"label has fewer than 8 bits a pixel ({packing}); save it with 8")
