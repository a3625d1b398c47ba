"""What makes a domain of street scenes: ranges of camera and layout, and the palette."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from ripu_lightning.data.streets.drawing import Color
from ripu_lightning.untrusted import parse_yaml

Range = tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """The layout and the colours of a domain, as ``recipes.yaml`` describes them."""

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
    palette: Mapping[str, Sequence[Color]]

    def color(self, name: str, rng: np.random.Generator) -> Color:
        """One of the palette's colours for ``name``, slightly changed; without a second colour, the first is used."""
        choices = self.palette.get(name) or self.palette[name.removesuffix(" second")]
        pick, tint, *hue = rng.random(5).tolist()
        tint = 1 + self.jitter * (2 * tint - 1)
        gains = [tint * (1 + self.jitter / 3 * (2 * h - 1)) for h in hue]
        base = choices[int(pick * len(choices))]
        red, green, blue = (int(min(255, gain * channel)) for channel, gain in zip(base, gains, strict=True))
        return red, green, blue


_CONTENT = (resources.files("ripu_lightning.data.streets") / "recipes.yaml").read_bytes()
RECIPES: Mapping[str, Recipe] = {domain: Recipe(**values) for domain, values in parse_yaml(_CONTENT).items()}
