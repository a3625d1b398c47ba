"""Camera and canvas of the drawn street scenes: each shape covers the same pixels of image, label and depth."""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

NEAR = 1.2  # metres; nothing is projected from nearer than this
FAR = 160.0  # metres; where the ground ends
SKY_DEPTH = 1000.0
_BASE = 16  # a pixel's code is its part + _BASE * its depth in centimetres (0: on the ground)

Color = tuple[int, int, int]
Point = tuple[float, float]


Part = IntEnum("Part", "ROAD PAVEMENT BUILDING FENCE POLE LIGHT SIGN VEGETATION TERRAIN SKY PERSON RIDER CAR", start=0)
"""The classes, in the order of ``class_maps/streets.yaml``."""


class Camera(NamedTuple):
    """A pinhole over a flat world: x to the right of the road's middle, y up, z ahead, all in metres.

    The image is ``height`` x ``width`` pixels; for the others see ``recipes.yaml``. A curve moves the world sideways by
    ``curve * z**2``.
    """

    height: int
    width: int
    focal: float
    horizon: float
    eye: float
    offset: float
    roll: float
    curve: float

    def scale(self, z: float) -> float:
        """Pixels per metre at distance ``z``."""
        return self.focal * self.height / z

    def point(self, x: float, y: float, z: float) -> Point:
        """Pixel coordinates (column, row) of a point of the world."""
        scale = self.scale(z)
        column = self.width / 2 + (x - self.offset + self.curve * z * z) * scale
        row = self.horizon * self.height + (self.eye - y) * scale
        return column, row + self.roll * (column - self.width / 2)

    def ground_depth(self) -> npt.NDArray[np.float32]:
        """Distance of the bare ground ``(H, W)`` in metres; the sky is far away."""
        rows = np.arange(self.height, dtype=np.float32)[:, None]
        columns = np.arange(self.width, dtype=np.float32)[None, :]
        below = rows - self.horizon * self.height - self.roll * (columns - self.width / 2)
        depth = self.eye * self.focal * self.height / np.maximum(below, 1e-3)
        return np.minimum(depth, SKY_DEPTH).astype(np.float32)


class Ink(NamedTuple):
    """Colour, class and distance of a shape; without a class it is a detail that only the image shows."""

    color: Color
    part: Part | None = None
    depth: float = 0.0


class Canvas:
    """Image, label and depth of one scene, drawn together and without anti-aliasing.

    >>> canvas = Canvas(Camera(32, 32, 1.0, 0.5, 1.5, 0.0, 0.0, 0.0))
    >>> canvas.polygon([(4, 4), (12, 4), (12, 9)], Ink((9, 9, 9), Part.SIGN, 20.0))
    >>> bool(((np.array(canvas.image)[..., 0] == 9) == (canvas.label() == Part.SIGN)).all())
    True
    """

    def __init__(self, camera: Camera) -> None:
        size = (camera.width, camera.height)
        self.camera = camera
        self.image = Image.new("RGB", size)
        # Part and depth share one layer, as every further layer costs a third of the drawing time.
        self._codes = Image.new("I", size, int(Part.SKY))
        self._draw_image, self._draw_codes = ImageDraw.Draw(self.image), ImageDraw.Draw(self._codes)

    def label(self) -> npt.NDArray[np.uint8]:
        """Part of each pixel ``(H, W)``."""
        return (np.asarray(self._codes) % _BASE).astype(np.uint8)

    def depth(self) -> npt.NDArray[np.float32]:
        """Distance of each pixel ``(H, W)`` in metres; that of the ground where nothing upright is."""
        centimetres = (np.asarray(self._codes) // _BASE).astype(np.float32)
        return np.where(centimetres > 0, centimetres / np.float32(100), self.camera.ground_depth())

    def polygon(self, points: Sequence[Point] | Sequence[float], ink: Ink) -> None:
        """A filled polygon, of points or of their coordinates in turn; however thin, it leaves some pixels."""
        self._each(ink, lambda draw, fill: draw.polygon(points, fill=fill))

    def quad(self, corners: Sequence[tuple[float, float, float]], ink: Ink) -> None:
        """A filled polygon given by points of the world."""
        self.polygon([self.camera.point(*corner) for corner in corners], ink)

    def ellipse(self, center: Point, radii: Point, ink: Ink) -> None:
        """A filled ellipse."""
        box = _box(center, radii)
        self._each(ink, lambda draw, fill: draw.ellipse(box, fill=fill))

    def ring(self, center: Point, radii: Point, width: float, ink: Ink) -> None:
        """An ellipse's outline, at least one pixel wide."""
        box, stroke = _box(center, radii), max(1, round(width))
        self._each(ink, lambda draw, fill: draw.ellipse(box, outline=fill, width=stroke))

    def line(self, points: Sequence[Point], width: float, ink: Ink) -> None:
        """A polyline, at least one pixel wide."""
        stroke = max(1, round(width))
        self._each(ink, lambda draw, fill: draw.line(points, fill=fill, width=stroke))

    def _each(self, ink: Ink, draw: Callable[[ImageDraw.ImageDraw, Color | int], None]) -> None:
        draw(self._draw_image, ink.color)
        if ink.part is not None:
            draw(self._draw_codes, ink.part + _BASE * round(100 * ink.depth))


def _box(center: Point, radii: Point) -> tuple[float, float, float, float]:
    (x, y), (rx, ry) = center, radii
    return x - rx, y - ry, x + rx, y + ry


def shade(color: Color, factor: float) -> Color:
    """A colour made darker (below 1) or lighter (above 1)."""
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in color)
    return red, green, blue
