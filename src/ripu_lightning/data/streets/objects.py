"""Static objects of a street scene: each function paints one kind of object at its place in the world."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ripu_lightning.data.streets.drawing import NEAR, Canvas, Color, Ink, Part, Point, shade

_TURN = np.array([np.cos(np.arange(11) * 2 * np.pi / 11), np.sin(np.arange(11) * 2 * np.pi / 11)])


@dataclass(frozen=True)
class Thing:
    """One object: position of its near end and size in metres, and the order in which it is painted."""

    kind: str  # name of its function in DRAWERS
    x: float  # across the road
    z: float  # along the road
    width: float  # across the road; of buildings: away from it
    height: float
    length: float  # along the road
    order: float  # distance by which objects are painted, far ones first
    color: Color
    second: Color  # of windows, plates, trousers and the like


def upright(canvas: Canvas, thing: Thing, points: Sequence[Point]) -> list[Point]:
    """Pixels of points given in metres (across, up) from the thing's foot, on a plane that faces the camera."""
    scale = canvas.camera.scale(thing.z)
    column, row = canvas.camera.point(thing.x, 0, thing.z)
    return [(column + dx * scale, row - dy * scale) for dx, dy in points]


def _posts(start: float, stop: float, step: float) -> list[float]:
    count = min(24, max(1, int((stop - start) / step)))
    return [start + (stop - start) * i / count for i in range(count + 1)]


def building(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A block with roof, and windows on the front that faces the road."""
    near, far = max(thing.z, NEAR), thing.z + thing.length
    x, height = thing.x, thing.height
    back = x + math.copysign(thing.width, x)
    ridge, rise = (x + back) / 2, height + rng.uniform(0, 3.5)
    ink = Ink(thing.color, Part.BUILDING, near)
    roof = ink._replace(color=shade(thing.color, rng.uniform(0.5, 0.8)))
    canvas.quad([(x, height, near), (x, height, far), (ridge, rise, far), (ridge, rise, near)], roof)
    canvas.quad([(x, 0, near), (x, 0, far), (x, height, far), (x, height, near)], ink)
    _windows(canvas, thing, rng)
    if thing.z > NEAR:
        gable = [(x, 0, near), (back, 0, near), (back, height, near), (ridge, rise, near), (x, height, near)]
        canvas.quad(gable, ink._replace(color=shade(thing.color, 0.8)))
        if rng.random() < 0.5:
            _chimney(canvas, ridge, rise, near, roof)


def _chimney(canvas: Canvas, x: float, y: float, z: float, ink: Ink) -> None:
    canvas.quad([(x - 0.4, y - 0.8, z), (x + 0.4, y - 0.8, z), (x + 0.4, y + 0.9, z), (x - 0.4, y + 0.9, z)], ink)


def _windows(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    near, far, x = max(thing.z, NEAR), thing.z + thing.length, thing.x
    span = abs(canvas.camera.point(x, 0, near)[0] - canvas.camera.point(x, 0, far)[0])
    if span < 0.1 * canvas.camera.height:
        return
    floors, columns = min(7, int(thing.height / 2.8)), max(2, min(7, int(thing.length / 2.5)))
    pitch, storey = thing.length / columns, thing.height / max(1, floors)
    width, tall = rng.uniform(0.4, 0.7) * pitch, rng.uniform(0.4, 0.65) * storey
    for column in range(columns):
        start = thing.z + (column + 0.5) * pitch - width / 2
        stop = start + width
        if start < NEAR:
            continue
        for floor in range(floors):
            low = (floor + 0.25) * storey
            pane = Ink(shade(thing.second, rng.uniform(0.7, 1.2)))
            canvas.quad([(x, low, start), (x, low, stop), (x, low + tall, stop), (x, low + tall, start)], pane)


def wall(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A wall of bricks next to the pavement."""
    near, far, x = max(thing.z, NEAR), thing.z + thing.length, thing.x
    ink = Ink(thing.color, Part.FENCE, near)
    canvas.quad([(x, 0, near), (x, 0, far), (x, thing.height, far), (x, thing.height, near)], ink)
    for i in range(1, 6):
        y = thing.height * i / 6
        joint = Ink(shade(thing.color, rng.uniform(0.75, 0.9)))
        canvas.line([canvas.camera.point(x, y, near), canvas.camera.point(x, y, far)], 1, joint)


def fence(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """Boards with gaps drawn dark, and posts that stand out above them."""
    near, far, x = max(thing.z, NEAR), thing.z + thing.length, thing.x
    ink = Ink(thing.color, Part.FENCE, near)
    canvas.quad([(x, 0, near), (x, 0, far), (x, thing.height, far), (x, thing.height, near)], ink)
    gap = Ink(shade(thing.color, rng.uniform(0.55, 0.75)))
    for z in _posts(near, far, 0.45):
        canvas.line([canvas.camera.point(x, 0.1, z), canvas.camera.point(x, thing.height, z)], 1, gap)
    for z in _posts(near, far, 2.5):
        foot, top = canvas.camera.point(x, 0, z), canvas.camera.point(x, 1.12 * thing.height, z)
        canvas.line([foot, top], 0.1 * canvas.camera.scale(z), ink)


def rail(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A guard rail: two bands on posts, open below and between."""
    near, far, x = max(thing.z, NEAR), thing.z + thing.length, thing.x
    ink = Ink(thing.color, Part.FENCE, near)
    for low, high in ((0.35, 0.55), (0.75, 1.0)):
        canvas.quad([(x, low, near), (x, low, far), (x, high, far), (x, high, near)], ink)
    for z in _posts(near, far, rng.uniform(1.5, 2.5)):
        foot, top = canvas.camera.point(x, 0, z), canvas.camera.point(x, 1.0, z)
        canvas.line([foot, top], 0.12 * canvas.camera.scale(z), ink)


def hedge(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A row of overlapping bushes."""
    count = 4 + int(thing.length)
    for i in reversed(range(count)):
        z = thing.z + thing.length * i / count
        if z < NEAR:
            continue
        radius = thing.height * rng.uniform(0.45, 0.6)
        scale = canvas.camera.scale(z)
        center = canvas.camera.point(thing.x, thing.height * rng.uniform(0.35, 0.5), z)
        ink = Ink(shade(thing.color, rng.uniform(0.75, 1.15)), Part.VEGETATION, z)
        canvas.ellipse(center, (radius * 1.2 * scale, radius * scale), ink)


def tree(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A trunk and a crown of leaf clumps with a ragged edge."""
    half, fork = 0.04 * thing.height, 0.6 * thing.height
    trunk = [(-half, 0), (half, 0), (half * 0.6, fork), (-half * 0.6, fork)]
    bark = Ink(thing.second, Part.VEGETATION, thing.z)
    canvas.polygon(upright(canvas, thing, trunk), bark)
    # Clumps that are a pixel or two across are not worth their time.
    count = 14 if thing.z < 25 else 6
    angle, distance = rng.uniform(0, 2 * math.pi, count), 0.75 * np.sqrt(rng.random(count))
    across = np.cos(angle) * distance * thing.width / 2
    up = (0.66 + 0.3 * np.sin(angle) * distance) * thing.height
    radius = thing.width / 2 * rng.uniform(0.25, 0.5, (count, 1)) * rng.uniform(0.7, 1.2, (count, 11))
    scale, (column, row) = canvas.camera.scale(thing.z), canvas.camera.point(thing.x, 0, thing.z)
    columns = column + (across[:, None] + radius * _TURN[0]) * scale
    rows = row - (up[:, None] + radius * _TURN[1]) * scale
    bright = rng.uniform(0.7, 1.0, count) + 0.3 * np.sin(angle)
    for outline, factor in zip(np.stack([columns, rows], -1).reshape(count, -1).tolist(), bright, strict=True):
        canvas.polygon(outline, bark._replace(color=shade(thing.color, float(factor))))


def pole(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A street lamp: a thin pole with an arm over the road."""
    ink = Ink(thing.color, Part.POLE, thing.z)
    scale = canvas.camera.scale(thing.z)
    reach = -math.copysign(rng.uniform(0.8, 2.0), thing.x)
    foot, bend, top, tip = upright(
        canvas, thing, [(0, 0), (0, thing.height * 0.9), (reach * 0.3, thing.height), (reach, thing.height)]
    )
    canvas.line([foot, bend], thing.width * scale, ink)
    canvas.line([bend, top, tip], 0.6 * thing.width * scale, ink)


def light(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A traffic light on its pole: a dark box with one of three lamps lit."""
    scale = canvas.camera.scale(thing.z)
    foot, top = upright(canvas, thing, [(0, 0), (0, thing.height)])
    canvas.line([foot, top], 0.16 * scale, Ink(thing.second, Part.POLE, thing.z))
    low, half = thing.height - 1.2, 0.31
    corners = [(-half, low), (half, low), (half, thing.height), (-half, thing.height)]
    canvas.polygon(upright(canvas, thing, corners), Ink(thing.color, Part.LIGHT, thing.z))
    lit = int(rng.integers(3))
    for i, lamp in enumerate([(70, 230, 140), (245, 190, 50), (240, 50, 40)]):
        center = upright(canvas, thing, [(0, low + 0.23 + 0.37 * i)])[0]
        radius = 0.15 * scale
        canvas.ellipse(center, (radius, radius), Ink(lamp if i == lit else shade(lamp, 0.25)))


def sign(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A traffic sign on its pole: disc, triangle or board with a rim."""
    scale = canvas.camera.scale(thing.z)
    half, middle = thing.width / 2, thing.height - thing.width / 2
    foot, top = upright(canvas, thing, [(0, 0), (0, middle)])
    canvas.line([foot, top], 0.12 * scale, Ink((128, 130, 133), Part.POLE, thing.z))
    plate, inner = Ink(thing.color, Part.SIGN, thing.z), Ink(thing.second)
    shape = int(rng.integers(3))
    if shape == 0:
        canvas.ellipse(top, (half * scale, half * scale), plate)
        canvas.ellipse(top, (0.65 * half * scale, 0.65 * half * scale), inner)
        return
    corners = [(-half, -half), (half, -half)] + ([(half, half), (-half, half)] if shape == 1 else [(0, half)])
    for factor, ink in ((1.0, plate), (0.6, inner)):
        outline = [(dx * factor, middle + dy * factor) for dx, dy in corners]
        canvas.polygon(upright(canvas, thing, outline), ink)
