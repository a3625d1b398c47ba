"""Panels of one image: classes in their colours, queried pixels, maps; in rows above a legend of the classes."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image
from PIL.ImageFilter import MaxFilter

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import UInt8Array
from ripu_lightning.report.image_snapshot import grey

PANEL = 768
"""Longer side of a panel, in pixels of the picture; a smaller image is enlarged by a whole number."""

_MAP = colormaps["inferno"]
_GAP, _TITLE, _FONT = 16, 60, 22
_LEGEND_ENTRY, _LEGEND_LINE = 17.5, 2.2  # width and height, in font sizes
_FEW = 0.002  # below this share of the panel, queried pixels are drawn larger
BoolArray = npt.NDArray[np.bool_]


def draw_panels(rows: Sequence[Mapping[str, UInt8Array]], classes: ClassMap) -> Figure:
    """A figure with RGB panels ``(h, w, 3)`` of one size, each under its title, row below row, above a class legend.

    Every pixel of a panel is one pixel of the figure when it is saved at the figure's own resolution.
    """
    rows = [row for row in rows if row]
    height, width = next(iter(rows[0].values())).shape[:2]
    size = min(_FONT, _FONT * width / 440)  # narrow panels have no room for wide titles
    across = max(map(len, rows)) * (width + _GAP) + _GAP
    columns = max(1, int(across / (_LEGEND_ENTRY * size)))
    lines = -(-(len(classes) + 2) // columns)
    bottom = round(lines * _LEGEND_LINE * size) + _GAP
    total = (across, bottom + len(rows) * (height + _TITLE))
    figure = Figure(figsize=(total[0] / 100, total[1] / 100), dpi=100, facecolor="white")
    for number, row in enumerate(rows):
        low = total[1] - (number + 1) * (height + _TITLE)
        for position, (title, panel) in enumerate(row.items()):
            left = _GAP + position * (width + _GAP)
            figure.figimage(panel, left, low, origin="upper")
            where = ((left + width / 2) / total[0], (low + height + _TITLE / 2) / total[1])
            figure.text(*where, title, ha="center", va="center", size=size)
    figure.legend(handles=_legend(classes), loc="lower center", ncols=columns, frameon=False, fontsize=size)
    return figure


def panel_size(height: int, width: int) -> tuple[int, int]:
    """``(h, w)`` of an image's panel.

    >>> panel_size(128, 256), panel_size(1024, 2048)
    ((384, 768), (384, 768))
    """
    scale = PANEL / max(height, width)
    scale = int(scale) if scale >= 1 else scale
    return max(1, round(height * scale)), max(1, round(width * scale))


def image_panel(image: UInt8Array) -> UInt8Array:
    """An RGB image ``(H, W, 3)`` at its panel's size."""
    return _resized(image, Image.Resampling.NEAREST if max(image.shape) <= PANEL else Image.Resampling.BOX)


def class_panel(labels: UInt8Array, classes: ClassMap) -> UInt8Array:
    """Class indices ``(H, W)`` in their colours at the panel's size; ignored pixels are black."""
    return _resized(classes.palette()[labels], Image.Resampling.NEAREST)


def map_panel(kind: str, values: npt.NDArray[np.float32]) -> tuple[str, UInt8Array]:
    """A title with the range, and a map ``(H, W)`` from dark to bright at the panel's size."""
    picture, least, most = grey(values, None if kind == "score" else 0.0)
    colours: UInt8Array = _MAP(picture, bytes=True)[..., :3]
    return f"{kind}: {least:.2g} to {least + most:.2g}", image_panel(colours)


def queried_panel(
    image: UInt8Array, labels: UInt8Array, query_round: npt.NDArray[np.uint16], newest: int, classes: ClassMap
) -> UInt8Array:
    """The faded grey image with the queried pixels in their classes' colours, outlined in black, the newest in white.

    Where the panel is smaller than the image, or few pixels were queried, they are drawn larger, to be seen.

    Args:
        image: ``(H, W, 3)`` RGB.
        labels: ``(H, W)`` class indices; void answers, drawn black, are 255.
        query_round: ``(H, W)`` round in which each pixel was queried, 0 = never.
        newest: the round to outline.
        classes: colours.
    """
    faded = image_panel(image).mean(axis=2, keepdims=True) * 0.4 + 80
    panel: UInt8Array = np.repeat(faded, 3, axis=2).astype(np.uint8)
    shrunk = panel.shape[0] < image.shape[0]
    colours = classes.palette()[labels]
    for chosen, outline in (((query_round > 0) & (query_round != newest), 0), (query_round == newest, 255)):
        marks, colour = _placed(chosen, colours, panel.shape[:2])
        marks, colour = _grown(marks, colour, 3 if marks.mean() < _FEW else int(shrunk))
        reach = 1 if shrunk or not outline else 2
        panel[np.array(Image.fromarray(marks).convert("L").filter(MaxFilter(2 * reach + 1))) > 0] = outline
        panel[marks] = colour[marks]
    return panel


def _placed(chosen: BoolArray, colours: UInt8Array, size: tuple[int, ...]) -> tuple[BoolArray, UInt8Array]:
    """Chosen pixels and their colours on the panel; shrinking loses none of the places."""
    (height, width), (tall, wide) = chosen.shape, size
    if tall >= height:
        grid = np.ix_(np.arange(tall) * height // tall, np.arange(wide) * width // wide)
        return chosen[grid], colours[grid]
    marks, colour = np.zeros((tall, wide), dtype=np.bool_), np.zeros((tall, wide, 3), dtype=np.uint8)
    rows, columns = np.nonzero(chosen)
    to = rows * tall // height, columns * wide // width
    marks[to], colour[to] = True, colours[rows, columns]
    return marks, colour


def _grown(marks: BoolArray, colour: UInt8Array, by: int) -> tuple[BoolArray, UInt8Array]:
    """Marks and colours with a border of ``by`` pixels; a mark's own colour is never painted over."""
    rows, columns = np.nonzero(marks)
    more, painted = marks.copy(), colour.copy()
    for down, right in np.ndindex(2 * by + 1, 2 * by + 1):
        to = (rows + down - by).clip(0, marks.shape[0] - 1), (columns + right - by).clip(0, marks.shape[1] - 1)
        painted[to], more[to] = colour[rows, columns], True
    painted[marks] = colour[marks]
    return more, painted


def _resized(picture: UInt8Array, resampling: Image.Resampling) -> UInt8Array:
    height, width = panel_size(*picture.shape[:2])
    return np.array(Image.fromarray(picture).resize((width, height), resampling))


def _legend(classes: ClassMap) -> list[Patch]:
    colours = ["#" + bytes(colour).hex() for colour in classes.colors]
    patches = [Patch(facecolor=colour, label=name) for name, colour in zip(classes.names, colours, strict=True)]
    around = [withStroke(linewidth=9, foreground="#808080")]  # or white would be lost on white
    outlined = Patch(facecolor="#808080", edgecolor="white", linewidth=4, path_effects=around, label="newest round")
    return [*patches, Patch(facecolor="black", label="ignored, void"), outlined]
