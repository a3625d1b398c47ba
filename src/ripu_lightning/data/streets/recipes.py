"""What makes a domain of street scenes: ranges of camera and layout, and the palette."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ripu_lightning.data.streets.drawing import Color

Range = tuple[float, float]
Palette = Mapping[str, tuple[Color, ...]]


@dataclass(frozen=True)
class Recipe:
    """A domain's layout: ranges are uniform, metres unless said otherwise; counts are Poisson means.

    Args:
        focal: focal length in image heights.
        horizon: row of the horizon in image heights.
        eye: camera height.
        offset: sideways place of the camera.
        roll: slope of the horizon.
        curve: bend of the road, 1/metres.
        road: half width of the road.
        pavement: width of the pavement.
        setback: from the pavement to the row of buildings.
        row: shares of what lines the road.
        spacing: distance between poles, lights and signs on one side.
        furniture: shares among those.
        moving, parked, people, riders: mean counts.
        jitter: relative spread of every colour.
        palette: colours to choose from.
    """

    focal: Range
    horizon: Range
    eye: Range
    offset: Range
    roll: Range
    curve: Range
    road: Range
    pavement: Range
    setback: Range
    row: Mapping[str, float]
    spacing: Range
    furniture: Mapping[str, float]
    moving: float
    parked: float
    people: float
    riders: float
    jitter: float
    palette: Palette

    def color(self, name: str, rng: np.random.Generator) -> Color:
        """One of the palette's colours for ``name``, a little off; what has no second colour repeats its first."""
        choices = self.palette.get(name) or self.palette[name.removesuffix(" second")]
        pick, tint, *hue = rng.random(5).tolist()
        tint = 1 + self.jitter * (2 * tint - 1)
        gains = [tint * (1 + self.jitter / 3 * (2 * h - 1)) for h in hue]
        base = choices[int(pick * len(choices))]
        red, green, blue = (int(min(255, gain * channel)) for channel, gain in zip(base, gains, strict=True))
        return red, green, blue


_CLEAN: Palette = {
    "road": ((104, 104, 108), (88, 88, 92)),
    "pavement": ((176, 166, 158), (160, 158, 156)),
    "terrain": ((122, 160, 78),),
    "sky": ((132, 186, 240), (182, 206, 230), (204, 210, 216)),
    "mark": ((240, 240, 236),),
    "building": ((206, 178, 148), (224, 208, 180), (186, 122, 96), (170, 168, 166)),
    "building second": ((96, 128, 160),),
    "wall": ((160, 140, 120),),
    "fence": ((168, 122, 84),),
    "rail": ((190, 192, 196),),
    "hedge": ((64, 128, 54),),
    "tree": ((70, 140, 60), (88, 150, 66)),
    "tree second": ((112, 82, 58),),
    "pole": ((156, 160, 166), (84, 88, 92)),
    "light": ((44, 46, 44),),
    "light second": ((130, 132, 136),),
    "sign": ((206, 44, 40), (40, 84, 190)),
    "sign second": ((246, 246, 246),),
    "person": ((200, 60, 60), (60, 90, 180), (230, 200, 70)),
    "person second": ((50, 60, 90),),
    "rider": ((210, 120, 40), (60, 150, 170)),
    "rider second": ((50, 50, 60),),
    "car": ((206, 36, 40), (36, 76, 180), (230, 230, 232), (236, 190, 60), (92, 96, 104)),
    "car second": ((60, 78, 96),),
}

_WEATHERED: Palette = {
    **_CLEAN,
    "road": ((84, 82, 84), (112, 104, 96), (66, 70, 78)),
    "pavement": ((140, 134, 128), (152, 138, 128), (120, 120, 124)),
    "terrain": ((122, 120, 70), (96, 116, 62), (140, 128, 90)),
    "sky": ((196, 202, 212), (214, 198, 180), (158, 174, 200)),
    "mark": ((196, 194, 184),),
    "building": ((142, 82, 64), (112, 98, 90), (168, 150, 128), (90, 96, 108), (176, 116, 80)),
    "building second": ((48, 54, 64), (70, 78, 90), (214, 176, 104)),
    "wall": ((134, 88, 72), (126, 122, 116)),
    "fence": ((88, 76, 66), (70, 88, 78), (140, 134, 126)),
    "rail": ((128, 130, 132),),
    "hedge": ((70, 84, 44), (84, 76, 42)),
    "tree": ((92, 104, 48), (128, 100, 44), (62, 88, 48)),
    "tree second": ((66, 56, 48),),
    "pole": ((180, 184, 186), (44, 54, 52), (204, 200, 190)),
    "light": ((30, 32, 32), (196, 158, 44)),
    "light second": ((80, 82, 84),),
    "sign": ((196, 44, 42), (36, 72, 160), (226, 184, 50)),
    "sign second": ((232, 228, 220), (232, 228, 220), (50, 50, 54)),
    "person": ((46, 44, 52), (140, 52, 54), (54, 76, 124), (186, 174, 150)),
    "person second": ((34, 36, 48), (66, 62, 60)),
    "rider": ((198, 204, 62), (214, 126, 44), (70, 130, 96)),
    "rider second": ((44, 46, 56), (78, 74, 70)),
    "car": ((60, 62, 68), (128, 130, 134), (34, 38, 46), (110, 40, 40), (176, 176, 172)),
    "car second": ((32, 36, 42), (96, 104, 112)),
}

SOURCE = Recipe(
    focal=(1.05, 1.15),
    horizon=(0.42, 0.48),
    eye=(1.6, 1.7),
    offset=(0.8, 1.4),
    roll=(0.0, 0.0),
    curve=(0.0, 0.0),
    road=(4.6, 5.2),
    pavement=(2.0, 2.6),
    setback=(1.5, 5.0),
    row={"building": 0.4, "wall": 0.08, "fence": 0.12, "rail": 0.04, "hedge": 0.12, "open": 0.24},
    spacing=(5.0, 16.0),
    furniture={"pole": 0.34, "light": 0.2, "sign": 0.22, "tree": 0.24},
    moving=4.0,
    parked=1.5,
    people=3.0,
    riders=1.0,
    jitter=0.12,
    palette=_CLEAN,
)

TARGET = Recipe(
    focal=(0.85, 1.4),
    horizon=(0.34, 0.56),
    eye=(1.2, 2.2),
    offset=(-1.5, 1.8),
    roll=(-0.04, 0.04),
    curve=(-0.003, 0.003),
    road=(3.2, 5.5),
    pavement=(1.2, 3.6),
    setback=(0.0, 2.5),
    row={"building": 0.5, "wall": 0.12, "fence": 0.15, "rail": 0.05, "hedge": 0.08, "open": 0.1},
    spacing=(3.5, 11.0),
    furniture={"pole": 0.33, "light": 0.16, "sign": 0.31, "tree": 0.2},
    moving=2.0,
    parked=5.0,
    people=7.0,
    riders=0.8,
    jitter=0.18,
    palette=_WEATHERED,
)

RECIPES: Mapping[str, Recipe] = {"source": SOURCE, "target": TARGET}
