"""Moving objects of a street scene: functions that paint cars, people and riders."""

import math

import numpy as np

from ripu_lightning.data.streets.drawing import NEAR, Canvas, Color, Ink, Part, Point, shade
from ripu_lightning.data.streets.objects import Thing, upright

SKIN = ((224, 178, 146), (176, 124, 90), (110, 76, 56))


def car(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A car seen from behind or ahead, with the side that faces the camera."""
    near, far = max(thing.z, NEAR), thing.z + thing.length
    half, height = thing.width / 2, thing.height
    shadow = [(thing.x - half - 0.1, 0, near), (thing.x + half + 0.1, 0, near)]
    shadow += [(thing.x + half + 0.1, 0, far), (thing.x - half - 0.1, 0, far)]
    canvas.quad(shadow, Ink((38, 38, 42)))
    ink = Ink(thing.color, Part.CAR, near)
    _flank(canvas, thing, near, far, ink)
    for side in (-1, 1):
        tyre = [(side * half, 0), (side * (half - 0.24), 0), (side * (half - 0.24), 0.4), (side * half, 0.4)]
        canvas.polygon(upright(canvas, thing, tyre), ink._replace(color=(24, 24, 26)))
    waist = 0.6 * height
    tail = [(-half, 0.22), (half, 0.22), (half, waist), (half - 0.22, height), (0.22 - half, height), (-half, waist)]
    canvas.polygon(upright(canvas, thing, tail), ink)
    top = height * 0.94
    glass = [(0.16 - half, waist), (half - 0.16, waist), (half - 0.3, top), (0.3 - half, top)]
    canvas.polygon(upright(canvas, thing, glass), Ink(thing.second))
    _lamps(canvas, thing, half, waist, rng)


def _flank(canvas: Canvas, thing: Thing, near: float, far: float, ink: Ink) -> None:
    middle = thing.x + canvas.camera.curve * near * near
    x = thing.x + math.copysign(thing.width / 2, canvas.camera.offset - middle)
    height, length = thing.height, far - near
    profile = [(0, 0.22), (0, 0.6), (0.08, 1.0), (0.6, 1.0), (0.78, 0.64), (1.0, 0.55), (1.0, 0.22)]
    corners = [(x, share * height, near + part * length) for part, share in profile]
    canvas.quad(corners, ink._replace(color=shade(ink.color, 0.75)))
    inset = x - 0.22 * (1 if x > thing.x else -1)
    canvas.quad([(x, 0.6 * height, near), (inset, height, near), (x, height, near + 0.08 * length)], ink)
    pane = [(0.08, 0.62), (0.12, 0.94), (0.58, 0.94), (0.7, 0.64)]
    canvas.quad([(x, share * height, near + part * length) for part, share in pane], Ink(thing.second))
    for part in (0.2, 0.8):
        circle = [(i * math.pi / 5, near + part * length) for i in range(10)]
        rim = [(x, 0.33 + 0.33 * math.sin(a), z + 0.33 * math.cos(a)) for a, z in circle]
        canvas.quad(rim, ink._replace(color=(22, 22, 24)))


def _lamps(canvas: Canvas, thing: Thing, half: float, waist: float, rng: np.random.Generator) -> None:
    color: Color = (190, 30, 28) if rng.random() < 0.6 else (250, 246, 214)
    for side in (-1, 1):
        inner, outer, low = side * (half - 0.38), side * (half - 0.06), waist - 0.22
        lamp = [(inner, low), (outer, low), (outer, low + 0.16), (inner, low + 0.16)]
        canvas.polygon(upright(canvas, thing, lamp), Ink(color))


def person(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A person who stands or walks."""
    tall, stride = thing.height / 1.75, rng.uniform(0.02, 0.3)
    lean, broad = rng.uniform(-0.04, 0.04), rng.uniform(0.18, 0.26)
    cloth = Ink(thing.color, Part.PERSON, thing.z)
    for side in (-1, 1):
        foot = side * stride
        leg = [(side * 0.02, 0.9), (side * 0.16, 0.9), (foot + 0.07, 0.0), (foot - 0.07, 0.0)]
        _limb(canvas, thing, leg, tall, cloth._replace(color=thing.second))
    torso = [(-broad * 0.8, 0.8), (broad * 0.8, 0.8), (broad + lean, 1.42), (-broad + lean, 1.42)]
    _limb(canvas, thing, torso, tall, cloth)
    for side in (-1, 1):
        swing = rng.uniform(0.0, 0.14)
        arm = [(side * broad, 1.42), (side * (broad + 0.1 + swing), 0.8), (side * (broad + swing), 0.78)]
        _limb(canvas, thing, arm, tall, cloth._replace(color=shade(thing.color, 0.85)))
    _head(canvas, thing, (lean, 1.6), tall, cloth, rng)


def rider(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A person on a bicycle, from the side or from behind; the bicycle belongs to the class rider."""
    frame = Ink((40, 42, 48), Part.RIDER, thing.z)
    cloth = frame._replace(color=thing.color)
    scale = canvas.camera.scale(thing.z)
    if rng.random() < 0.5:
        wheel = upright(canvas, thing, [(0, 0.34)])[0]
        canvas.ellipse(wheel, (0.05 * scale, 0.34 * scale), frame)
        _limb(canvas, thing, [(-0.28, 1.0), (0.28, 1.0), (0.28, 1.06), (-0.28, 1.06)], 1, frame)
        for side in (-1, 1):
            leg = [(side * 0.02, 1.0), (side * 0.2, 1.0), (side * 0.17, 0.3), (side * 0.06, 0.3)]
            _limb(canvas, thing, leg, 1, cloth._replace(color=thing.second))
        _limb(canvas, thing, [(-0.2, 0.92), (0.2, 0.92), (0.26, 1.5), (-0.26, 1.5)], 1, cloth)
        _head(canvas, thing, (0.0, 1.68), 1, cloth, rng)
        return
    way = -1 if rng.random() < 0.5 else 1
    for hub in (-0.52, 0.52):
        wheel = upright(canvas, thing, [(hub, 0.34)])[0]
        canvas.ring(wheel, (0.34 * scale, 0.34 * scale), 0.07 * scale, frame)
    tubes = [(-0.52, 0.34), (-0.15, 0.85), (0.4, 0.8), (0.52, 0.34), (0.0, 0.32), (-0.15, 0.85)]
    canvas.line(upright(canvas, thing, [(way * dx, dy) for dx, dy in tubes]), 0.07 * scale, frame)
    leg = [(-0.26, 0.95), (0.0, 1.0), (0.16, 0.6), (0.08, 0.22), (-0.04, 0.24), (0.02, 0.58)]
    torso = [(-0.3, 0.9), (0.02, 0.9), (0.36, 1.38), (0.12, 1.5)]
    arm = [(0.3, 1.42), (0.2, 1.34), (0.42, 1.0), (0.5, 1.06)]
    for shape, color in ((leg, thing.second), (torso, thing.color), (arm, shade(thing.color, 0.85))):
        _limb(canvas, thing, [(way * dx, dy) for dx, dy in shape], 1, cloth._replace(color=color))
    _head(canvas, thing, (way * 0.32, 1.6), 1, cloth, rng)


def _limb(canvas: Canvas, thing: Thing, shape: list[Point], tall: float, ink: Ink) -> None:
    canvas.polygon(upright(canvas, thing, [(dx, dy * tall) for dx, dy in shape]), ink)


def _head(canvas: Canvas, thing: Thing, spot: Point, tall: float, ink: Ink, rng: np.random.Generator) -> None:
    scale = canvas.camera.scale(thing.z)
    center = upright(canvas, thing, [(spot[0], spot[1] * tall)])[0]
    skin = ink._replace(color=SKIN[int(rng.integers(len(SKIN)))])
    canvas.ellipse(center, (0.12 * scale, 0.15 * scale), skin)
    hair = (center[0], center[1] - 0.07 * scale)
    canvas.ellipse(hair, (0.1 * scale, 0.07 * scale), ink._replace(color=shade(ink.color, 0.4)))
