"""Everything flat in a street scene: sky, skyline, terrain, pavement, road and its markings."""

import numpy as np

from ripu_lightning.data.streets.drawing import FAR, NEAR, Canvas, Color, Ink, Part, shade
from ripu_lightning.data.streets.recipes import Recipe


class Ground:
    """Everything flat: sky, skyline, terrain, pavement, road and its markings."""

    def __init__(self, canvas: Canvas, recipe: Recipe, rng: np.random.Generator) -> None:
        self.canvas, self.camera, self.recipe, self.rng = canvas, canvas.camera, recipe, rng
        self.reach = (NEAR * (FAR / NEAR) ** np.linspace(0, 1, 28)).tolist()

    def paint(self, road: float, pavement: float) -> None:
        """Paint from the sky down to the lane marks; half width of the road and width of the pavement in metres."""
        self._backdrop()
        self._skyline()
        outer = road + pavement
        self._strip(-outer, outer, Ink(self._color("pavement"), Part.PAVEMENT), 0.25)
        surface = self._color("road")
        self._strip(-road, road, Ink(surface, Part.ROAD), 0.0)
        for side in (-1, 1):
            kerb = Ink(shade(self._color("pavement"), 1.2), Part.PAVEMENT)
            self._strip(side * road, side * (road + 0.18), kerb, 0.0)
        self._marks(road, Ink(self._color("mark"), Part.ROAD))

    def _backdrop(self) -> None:
        camera, width = self.camera, self.camera.width
        left, right = (camera.horizon * camera.height + camera.roll * (u - width / 2) for u in (0, width))
        self.canvas.polygon([(-1, -1), (width, -1), (width, right), (-1, left)], Ink(self._color("sky"), Part.SKY))
        ground = [(-1, left), (width, right), (width, camera.height), (-1, camera.height)]
        self.canvas.polygon(ground, Ink(self._color("terrain"), Part.TERRAIN))

    def _skyline(self) -> None:
        """Far trees, and a few far houses, along the horizon."""
        rng, camera = self.rng, self.camera
        unit = camera.height / 128
        foot = camera.horizon * camera.height
        steps = 40
        columns = np.linspace(-2, camera.width + 2, steps)
        rows = foot + camera.roll * (columns - camera.width / 2)
        bumps = np.convolve(rng.uniform(0, 14, steps + 4), np.ones(5) / 5, "valid") + rng.uniform(-1.5, 1.5, steps)
        tops = list(zip(columns.tolist(), (rows - np.maximum(bumps, 1) * unit).tolist(), strict=True))
        ends = [(columns[-1], rows[-1] + unit), (columns[0], rows[0] + unit)]
        for _ in range(rng.poisson(3)):
            u, half, tall = rng.uniform(0, camera.width), rng.uniform(3, 9) * unit, rng.uniform(6, 22) * unit
            base = foot + camera.roll * (u - camera.width / 2)
            block = Ink(self._color("building"), Part.BUILDING, FAR)
            top = base - tall
            self.canvas.polygon([(u - half, base), (u + half, base), (u + half, top), (u - half, top)], block)
        self.canvas.polygon(tops + ends, Ink(self._color("tree"), Part.VEGETATION, FAR))

    def _strip(self, left: float, right: float, ink: Ink, ragged: float) -> None:
        """A band along the road between two x; a ragged one has grown-over edges."""
        wobble = self.rng.uniform(-ragged, ragged, (2, len(self.reach))).tolist()
        edges = [
            [self.camera.point(x + dx, 0, z) for z, dx in zip(self.reach, side, strict=True)]
            for x, side in zip((left, right), wobble, strict=True)
        ]
        self.canvas.polygon(edges[0] + edges[1][::-1], ink)

    def _marks(self, road: float, ink: Ink) -> None:
        rng = self.rng
        start = rng.uniform(1.5, 6.0)
        for i in range(8):
            near = start + 7.0 * i
            corners = [(-0.08, 0, near), (0.08, 0, near), (0.08, 0, near + 3.5), (-0.08, 0, near + 3.5)]
            self.canvas.quad(corners, ink)
        if rng.random() < 0.35:
            near = rng.uniform(7.0, 20.0)
            for x in np.arange(-road + 0.5, road - 0.5, 1.1).tolist():
                self.canvas.quad([(x, 0, near), (x + 0.55, 0, near), (x + 0.55, 0, near + 3), (x, 0, near + 3)], ink)

    def _color(self, name: str) -> Color:
        return self.recipe.color(name, self.rng)
