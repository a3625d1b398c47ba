"""The confusion matrix as a picture: of each class's pixels, which share is predicted as what."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor


def draw_confusion(counts: Tensor, classes: Sequence[str]) -> Figure:
    """A heat map whose rows, one a true class, each sum to 100 %; a class without pixels has an empty row.

    Args:
        counts: ``(C, C)`` counts of (truth, prediction).
        classes: their names.
    """
    numbers = counts.double().numpy()
    total = numbers.sum(axis=1, keepdims=True)
    shares = np.divide(100 * numbers, total, out=np.full_like(numbers, np.nan), where=total > 0)
    size = 2.5 + 0.45 * len(classes)
    figure = Figure(figsize=(size + 1, size), dpi=100, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):  # less would be printed as 0
        share = shares[row, column]
        colour = "white" if share > 60 else "black"
        axes.text(column, row, f"{share:.0f}", ha="center", va="center", size=8, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=90)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.colorbar(image, label="% of the true class's pixels")
    return figure
