"""Diagrams and pictures of a replay: agreement, classes, and what each strategy buys of an image."""

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import color_sequences
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ripu_lightning.data.dataset import IGNORE, SegmentationDataset, UInt8Array
from ripu_lightning.files import replacing
from ripu_lightning.report.drawing import bought_panel, class_panel, image_panel
from ripu_lightning.report.pictures import spread
from ripu_lightning.report.replay.counts import BoolArray

COLUMNS = 4
"""Panels side by side."""
_RIGHT, _WRONG = "#e1e1e1", "#d62728"
_COLOURS = [*color_sequences["tab20"][::2], *color_sequences["tab20"][1::2]]


def draw_agreement(names: Sequence[str], values: Sequence[Sequence[float]]) -> bytes:
    """A PNG: the matrix of IoUs (0..1) of what pairs of strategies buy."""
    side = 2.2 + 0.75 * len(names)
    figure = Figure(figsize=(side, side), dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.imshow(np.array(values, dtype=float), vmin=0, vmax=1, cmap="Blues")
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            text = "–" if math.isnan(value) else f"{100 * value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color="white" if value > 0.5 else "black")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_title("pixels bought in common (IoU, %)")
    return _png(figure)


def draw_classes(names: Sequence[str], classes: Sequence[str], pixels: Sequence[Sequence[int]]) -> bytes:
    """A PNG: of what each strategy buys, and of the pool, which comes last and black, the share of each class (%)."""
    figure = Figure(figsize=(max(7, 0.9 * len(classes)), 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    width = 0.85 / len(names)
    for position, (name, counted) in enumerate(zip(names, pixels, strict=True)):
        shares = 100 * np.array(counted) / max(sum(counted), 1)
        places = np.arange(len(classes)) + (position - (len(names) - 1) / 2) * width
        colour = "black" if position == len(names) - 1 else _COLOURS[position % len(_COLOURS)]
        axes.bar(places, shares, width, label=name, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_ylabel("share of the pixels (%)")
    figure.legend(loc="outside right upper", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


class Composites:
    """Writes ``<folder>/<image id>.png``: image, truth, the network's errors, and what each strategy buys.

    An image id's ``/`` become ``__``.

    Args:
        folder: made when the first is written.
        dataset: gives images, truth and classes.
        count: number of images, spread evenly over the data set.
    """

    def __init__(self, folder: Path, dataset: SegmentationDataset, count: int) -> None:
        self.folder, self.dataset, self.indices = folder, dataset, spread(count, len(dataset))

    def draw(self, index: int, predicted: UInt8Array, bought: Mapping[str, BoolArray]) -> None:
        """Draw an image, if it is one of them, with predictions ``(H, W)`` and what each strategy buys, ``(H, W)``.

        Raises:
            UserError: it can not be written.
        """
        if index not in self.indices:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(self.folder / f"{self.dataset.ids[index].replace('/', '__')}.png", "nothing was lost") as file:
            file.write(_png(self._draw(index, predicted, bought)))

    def _draw(self, index: int, predicted: UInt8Array, bought: Mapping[str, BoolArray]) -> Figure:
        dataset, classes = self.dataset, self.dataset.classes
        image, truth = dataset.image(index), dataset.label(index)
        panels = {
            "image": image_panel(image),
            "truth": class_panel(truth, classes),
            "errors, in red": errors(truth, predicted),
        }
        for name, asked in bought.items():
            labels = np.where(asked, truth, IGNORE).astype(np.uint8)
            panels[name] = bought_panel(image, labels, asked.astype(np.uint16), 1, classes)
        columns = min(COLUMNS, len(panels))
        rows = -(-len(panels) // columns)
        height = 4 * image.shape[0] / image.shape[1] + 0.4
        figure = Figure(figsize=(4 * columns, height * rows + 0.9), dpi=150, layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for each in axes:
            each.axis("off")
        for each, (title, panel) in zip(axes, panels.items(), strict=False):
            each.imshow(panel, interpolation="antialiased")
            each.set_title(title)
        colours = [*classes.colors, (0, 0, 0)]
        handles = [
            Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colour), label=name)
            for name, colour in zip((*classes.names, "void"), colours, strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 2 * columns), frameon=False)
        return figure


def errors(truth: UInt8Array, predicted: UInt8Array) -> UInt8Array:
    """``(H, W, 3)`` RGB: grey where the prediction is right, red where it is wrong, black where the truth is void."""
    panel = np.where((truth == predicted)[..., None], _rgb(_RIGHT), _rgb(_WRONG))
    panel[truth == IGNORE] = 0
    return panel


def _rgb(colour: str) -> UInt8Array:
    return np.frombuffer(bytes.fromhex(colour[1:]), dtype=np.uint8)


def _png(figure: Figure) -> bytes:
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()
