"""EXIF orientation: which way up an image is, as cameras and phones write it into JPEG, PNG, WebP and TIFF files."""

import struct
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from ripu_lightning.data.dataset import UInt8Array

UPRIGHT = 1
_TAG = ExifTags.Base.Orientation
_METADATA = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Where Pillow keeps what may hold the orientation."""


def turn(image: UInt8Array, orientation: int) -> UInt8Array:
    """A stored image ``(h, w, 3)`` upright, ``(H, W, 3)``; 5 to 8 exchange height and width."""
    if orientation in (2, 7):
        image = image[:, ::-1]
    if orientation in (4, 5):
        image = image[::-1]
    quarters = {3: 2, 5: -1, 6: -1, 7: -1, 8: 1}.get(orientation, 0)  # counter-clockwise
    return np.rot90(image, quarters) if quarters else image


def of_header(picture: ImageFile) -> tuple[tuple[int, int], int]:
    """Upright size ``(H, W)`` and stated orientation, 1 to 8, of a picture that was opened and not decoded."""
    width, height = picture.size
    if hasattr(picture, "tag_v2"):  # some releases of Pillow exchange the sides of a TIFF here
        width, height = picture.tag_v2[256], picture.tag_v2[257]
    elif picture.format == "PNG" and _metadata_follows(picture.fp):
        picture.load()
    found = stated(picture)
    return ((width, height) if found >= 5 else (height, width)), found


def stated(picture: Image.Image) -> int:
    """The orientation that the metadata state, as far as they were read: all of them once a picture is decoded."""
    if not hasattr(picture, "tag_v2") and not any(name in picture.info for name in _METADATA):
        return UPRIGHT
    try:
        # The method of the base class: that of PNG decodes the pixels first.
        found = Image.Image.getexif(picture).get(_TAG, UPRIGHT)
    except Exception:  # damaged metadata, which viewers ignore too
        return UPRIGHT
    return int(found) if found in range(1, 9) else UPRIGHT


def _metadata_follows(stream: Any) -> bool:
    """Whether a PNG holds EXIF or XMP after its pixels, where Pillow's header does not look."""
    place = stream.tell()
    try:
        position, pixels = 8, False
        while len(head := _at(stream, position, 32)) >= 8:
            length, kind = struct.unpack(">I4s", head[:8])
            text = kind in (b"iTXt", b"tEXt", b"zTXt") and head[8:].startswith(
                (b"Raw profile type exif", b"XML:com.adobe")
            )
            if pixels and (kind == b"eXIf" or text):
                return True
            pixels |= kind == b"IDAT"
            position += 12 + length
        return False
    finally:
        stream.seek(place)


def _at(stream: Any, position: int, count: int) -> bytes:
    stream.seek(position)
    return bytes(stream.read(count))
