"""Pictures as data URIs, small enough for a page that is mailed."""

import io
from base64 import b64encode

import numpy as np
from matplotlib import colormaps
from PIL import Image

from ripu_lightning.labels.answers import UInt8Array

WIDTH = 512
"""Most pixels across."""


def image_uri(image: UInt8Array) -> str:
    """An RGB image ``(H, W, 3)`` as JPEG."""
    small = Image.fromarray(image)
    return _uri(_smaller(small, Image.Resampling.BOX), "JPEG", quality=82)


def class_uri(labels: UInt8Array, palette: UInt8Array) -> str:
    """Class indices ``(H, W)`` in the colours ``(256, 3)`` of a palette."""
    small = _smaller(Image.fromarray(labels), Image.Resampling.NEAREST)
    small.putpalette(palette.tobytes())
    return _uri(small, "PNG", optimize=True)


def score_uri(score: UInt8Array) -> str:
    """A map ``(H, W)``, 0..255, from dark to bright."""
    small = _smaller(Image.fromarray(score), Image.Resampling.BOX)
    bright = (colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return _uri(Image.fromarray(bright[np.array(small)]), "JPEG", quality=80)


def png_uri(content: bytes) -> str:
    """A PNG that is there already."""
    return f"data:image/png;base64,{b64encode(content).decode()}"


def _smaller(picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
    if picture.width <= WIDTH:
        return picture
    return picture.resize((WIDTH, max(1, round(picture.height * WIDTH / picture.width))), resampling)


def _uri(picture: Image.Image, kind: str, **options: int | bool) -> str:
    content = io.BytesIO()
    picture.save(content, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{b64encode(content.getvalue()).decode()}"
