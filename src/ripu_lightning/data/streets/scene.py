"""Layout of a street scene: which object is where, drawn from the ranges of a domain."""

import math
from bisect import bisect
from collections.abc import Callable, Mapping
from itertools import accumulate

import numpy as np

from ripu_lightning.data.streets import objects, traffic
from ripu_lightning.data.streets.drawing import NEAR, Camera, Canvas
from ripu_lightning.data.streets.ground import Ground
from ripu_lightning.data.streets.objects import Thing
from ripu_lightning.data.streets.recipes import Range, Recipe

_STATIC = (objects.building, objects.wall, objects.fence, objects.rail, objects.hedge, objects.tree)
_KERB = (objects.pole, objects.light, objects.sign)
_MOVING = (traffic.car, traffic.person, traffic.rider)
DRAWERS: Mapping[str, Callable[[Canvas, Thing, np.random.Generator], None]] = {
    function.__name__: function for function in (*_STATIC, *_KERB, *_MOVING)
}


class Scene:
    """One street: draws its layout from ``rng``, then paints it far to near.

    Args:
        recipe: the domain's ranges.
        size: ``(H, W)`` in pixels.
        rng: the only source of random numbers.
    """

    def __init__(self, recipe: Recipe, size: tuple[int, int], rng: np.random.Generator) -> None:
        self.recipe, self.rng = recipe, rng
        draw = self._draw
        ranges = (recipe.focal, recipe.horizon, recipe.eye, recipe.offset, recipe.roll, recipe.curve)
        self.camera = Camera(*size, *map(draw, ranges))
        self.road, self.pavement, self.setback = map(draw, (recipe.road, recipe.pavement, recipe.setback))
        self.things: list[Thing] = []
        for side in (-1, 1):
            self._line_up(side)
            self._furnish(side)
            self._park(side)
        self._populate()

    def paint(self, canvas: Canvas) -> Canvas:
        """Paint everything onto an empty canvas of the scene's camera, and return it."""
        Ground(canvas, self.recipe, self.rng).paint(self.road, self.pavement)
        for thing in sorted(self.things, key=lambda thing: -thing.order):
            DRAWERS[thing.kind](canvas, thing, self.rng)
        return canvas

    def _draw(self, limits: Range) -> float:
        return float(self.rng.uniform(*limits))

    def _choose(self, shares: Mapping[str, float]) -> str:
        sums = list(accumulate(shares.values()))
        return list(shares)[bisect(sums, self.rng.random() * sums[-1])]

    def _add(self, kind: str, x: float, z: float, size: tuple[float, float, float], order: float = 0) -> None:
        """Place a thing of ``size`` (width, height, length); by default it is painted by its near end."""
        color, second = (self.recipe.color(name, self.rng) for name in (kind, f"{kind} second"))
        self.things.append(Thing(kind, x, z, *size, order or z, color, second))

    def _line_up(self, side: int) -> None:
        """Fill one side of the road, segment by segment."""
        z = self._draw((-4.0, 2.0))
        while z < 100:
            kind = self._choose(self.recipe.row)
            length = self._draw((7.0, 16.0)) if kind == "building" else self._draw((5.0, 13.0))
            x = side * (self.road + self.pavement + self.setback + self._draw((0.0, 0.6)))
            self._segment(kind, x, z, length)
            z += length + (self._draw((0.0, 2.5)) if self.rng.random() < 0.3 else 0.0)

    def _segment(self, kind: str, x: float, z: float, length: float) -> None:
        end, side = z + length, math.copysign(1.0, x)
        if end <= NEAR + 0.5:
            return
        barrier = (0.2, (1.2, 2.5))
        shapes = {"building": (9.0, (4.0, 15.0)), "wall": barrier, "fence": barrier, "rail": barrier}
        if shape := {**shapes, "hedge": (1.0, (0.8, 2.0))}.get(kind):
            self._add(kind, x, z, (shape[0], self._draw(shape[1]), length), end)
        if kind != "building":
            for _ in range(self.rng.poisson(length / 5)):
                spot = self._draw((z, end))
                if NEAR + 2 < spot < 65:
                    self._tree(x + side * self._draw((1.0, 8.0)), spot, end + 0.01 * (1 + spot / end))

    def _tree(self, x: float, z: float, order: float) -> None:
        height = self._draw((3.5, 9.0))
        self._add("tree", x, z, (height * self._draw((0.5, 0.8)), height, 0.0), order)

    def _furnish(self, side: int) -> None:
        """Poles, lights, signs and street trees along the kerb."""
        z = self._draw((4.0, 4.0 + self.recipe.spacing[1]))
        while z < 45:
            kind = self._choose(self.recipe.furniture)
            x = side * (self.road + self._draw((0.3, 0.9)))
            if kind == "light":
                self._add(kind, x, z, (0.5, self._draw((2.8, 4.2)), 0.0))
            elif kind in ("pole", "sign"):
                width, height = ((0.2, 0.34), (5.0, 8.0)) if kind == "pole" else ((0.9, 1.3), (2.4, 3.4))
                self._add(kind, x, z, (self._draw(width), self._draw(height), 0.0))
            else:
                self._tree(x + side * 0.5, z, z)
            z += self._draw(self.recipe.spacing)

    def _park(self, side: int) -> None:
        slots = np.arange(self._draw((3.0, 8.0)), 80, 5.6)
        share = min(1.0, self.recipe.parked / len(slots))
        for z in slots[self.rng.random(len(slots)) < share].tolist():
            self._car(side * (self.road - 1.0), z)

    def _car(self, x: float, z: float) -> None:
        """A car, unless another one is in its place."""
        cars = (thing for thing in self.things if thing.kind == "car")
        if any(abs(other.x - x) < 2.1 and abs(other.z - z) < 5.2 for other in cars):
            return
        van = self.rng.random() < 0.15
        height = self._draw((1.9, 2.4)) if van else self._draw((1.35, 1.6))
        self._add("car", x, z, (self._draw((1.7, 1.95)), height, self._draw((3.8, 4.8))))

    def _populate(self) -> None:
        """Cars in the lanes, people on pavement and road, riders near the kerb."""
        recipe, rng = self.recipe, self.rng
        for _ in range(rng.poisson(recipe.moving)):
            lane = 1 if rng.random() < 0.5 else -1
            self._car(lane * self.road * 0.4, 6.5 + 60 * rng.random() ** 1.5)
        for _ in range(rng.poisson(recipe.people)):
            crossing = rng.random() < 0.15
            reach = self.road + self._draw((0.3, self.pavement))
            x = self._draw((-self.road, self.road)) if crossing else reach * (1 if rng.random() < 0.5 else -1)
            self._add("person", x, 4.5 + 22 * rng.random() ** 1.5, (0.5, self._draw((1.5, 1.9)), 0.0))
        for _ in range(rng.poisson(recipe.riders)):
            x = (self.road - self._draw((1.0, 2.8))) * (1 if rng.random() < 0.5 else -1)
            self._add("rider", x, 4.0 + 14 * rng.random() ** 1.5, (0.5, 1.75, 0.0))
