"""A replay's tables for the terminal, and its files: ``compare.json``, ``compare.csv``, charts and pictures."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ripu_lightning.data.dataset import IGNORE, SegmentationDataset, UInt8Array
from ripu_lightning.files import write_bytes
from ripu_lightning.report.chart_types import COLOURS, TEXTURES, BarChart, HeatMap, Style
from ripu_lightning.report.data_table import Cell, Column, DataTable, csv_text, wide
from ripu_lightning.report.image_panels import class_panel, draw_panels, image_panel, queried_panel
from ripu_lightning.report.matplotlib_charts import chart_file, figure_file
from ripu_lightning.report.replay.query_counts import BoolArray, Counts, Figures, agreement, figures_of
from ripu_lightning.report.round_pictures import spread

COLUMNS = 4
"""Panels side by side."""
_RIGHT, _WRONG = np.array([[225, 225, 225], [214, 39, 40]], dtype=np.uint8)
_NOTE = "start the same command again"


@dataclass(frozen=True)
class Comparison:
    """What several strategies query with one network.

    Attributes:
        about: plain values: of which checkpoint, data and budget.
        classes: their names.
        strategies: figures by name.
        pool: figures of all pixels without a label; random expects its shares.
        agreement: ``[S][S]`` intersection over union of what two strategies query; null where neither has a query.
        seconds: by strategy, see :class:`~ripu_lightning.report.replay.replay_callback.Replay`.
    """

    about: Mapping[str, Any]
    classes: Sequence[str]
    strategies: Mapping[str, Figures]
    pool: Figures
    agreement: list[list[float]]
    seconds: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(
        cls,
        counts: Counts,
        seconds: Mapping[str, Mapping[str, float]],
        classes: Sequence[str],
        about: Mapping[str, Any],
    ) -> "Comparison":
        """From counts, whose rows are in the order of ``seconds``."""
        *found, pool = figures_of(counts)
        return cls(about, classes, dict(zip(seconds, found, strict=True)), pool, agreement(counts).tolist(), seconds)


def write_comparison(found: Comparison, folder: Path) -> None:
    """Write the files into a folder, which is made if missing. Raises UserError where one cannot be written."""
    strategies = {name: {**each._asdict(), "seconds": found.seconds[name]} for name, each in found.strategies.items()}
    content = {
        **found.about,
        "classes": list(found.classes),
        "strategies": strategies,
        "pool": found.pool._asdict(),
        "agreement": found.agreement,
    }
    for name, data in {
        "compare.json": json.dumps(_without_nan(content), indent=2, allow_nan=False).encode() + b"\n",
        "compare.csv": csv_text(_csv_rows(found)).encode(),
        "agreement.png": chart_file(agreement_chart(list(found.strategies), found.agreement)),
        "classes.png": chart_file(class_chart({**found.strategies, "pool": found.pool}, found.classes)),
    }.items():
        write_bytes(folder / name, data, _NOTE)


class ReplayPictures:
    """Writes ``<folder>/<image id>.png``: image, truth, the network's errors, and the queries of each strategy.

    An image id's ``/`` become ``__``.

    Args:
        folder: made when the first is written.
        dataset: gives images, truth and classes.
        count: number of images, spread evenly over the data set.
    """

    def __init__(self, folder: Path, dataset: SegmentationDataset, count: int) -> None:
        self.folder, self.dataset, self.indices = folder, dataset, spread(count, len(dataset))

    def draw(self, index: int, predicted: UInt8Array, queried: Mapping[str, BoolArray]) -> None:
        """Draw an image, if it is one of them, with predictions ``(H, W)`` and the queried pixels ``(H, W)``.

        Raises:
            UserError: it cannot be written.
        """
        if index not in self.indices:
            return
        dataset, classes = self.dataset, self.dataset.classes
        image, truth = dataset.image(index), dataset.label(index)
        panels = {"image": image_panel(image), "truth": class_panel(truth, classes)}
        panels["errors, in red"] = image_panel(errors(truth, predicted))
        for name, pixels in queried.items():
            labels = np.where(pixels, truth, IGNORE).astype(np.uint8)
            panels[name] = queried_panel(image, labels, pixels.astype(np.uint16), 1, classes)
        items = list(panels.items())
        rows = [dict(items[start : start + COLUMNS]) for start in range(0, len(items), COLUMNS)]
        path = self.folder / f"{dataset.ids[index].replace('/', '__')}.png"
        write_bytes(path, figure_file(draw_panels(rows, classes)), _NOTE)


def errors(truth: UInt8Array, predicted: UInt8Array) -> UInt8Array:
    """``(H, W, 3)`` RGB: grey where the prediction is right, red where it is wrong, black where the truth is void."""
    panel: UInt8Array = np.where((truth == predicted)[..., None], _RIGHT, _WRONG)
    panel[truth == IGNORE] = 0
    return panel


def agreement_chart(names: Sequence[str], values: Sequence[Sequence[float]]) -> HeatMap:
    """The matrix of IoUs (0..1) of what pairs of strategies query."""
    return HeatMap("agreement", "pixels queried in common (IoU, %)", "", names, values)


def class_chart(figures: Mapping[str, Figures], classes: Sequence[str]) -> BarChart:
    """Of what each strategy queries, and of the pool, which comes last and black, the share of each class (%)."""
    series = []
    for number, (name, each) in enumerate(figures.items(), start=1):
        textures, colour = divmod(number - 1, len(COLOURS))
        style = Style("black") if number == len(figures) else Style(COLOURS[colour], textures % TEXTURES)
        shares = 100 * np.array(each.class_pixels) / max(sum(each.class_pixels), 1)
        series.append((name, style, shares.tolist()))
    return BarChart("classes", "", "", "share of the pixels (%)", classes, series)


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    """Print what is queried, its classes, and how far the strategies agree."""
    console = wide(console)
    wrong = "–" if math.isnan(found.pool.precision) else f"{100 * found.pool.precision:.1f}"
    console.print(f"the network gets {wrong} % of the pool's pixels wrong", highlight=False)
    everything = {**found.strategies, "the whole pool": found.pool}
    strong = frozenset({len(found.strategies)})
    rows: list[list[Cell]] = [
        [name, *(100 * each for each in (own.share, own.precision, own.recall)), own.lift, *_percent(own[6], own[5])]
        for name, own in everything.items()
    ]
    columns = [Column("queried"), Column("% of pixels", 2), Column("wrong %"), Column("errors caught %", 2)]
    columns += [Column("x random", 2), Column("boundary %"), Column("void %")]
    DataTable("queried", "", "", columns, rows, strong).show(console)
    rows = []
    for name, own in everything.items():
        milliseconds = [
            1000 * found.seconds[name][part] if name in found.seconds else None for part in ("network", "scoring")
        ]
        rarest = _rarest(own, found) if name in found.strategies else ""
        rows.append([name, own.images, 100 * own.classes, own.balance, rarest, *milliseconds])
    columns = [Column("covered"), Column("images"), Column("% of classes", 0), Column("balance", 2)]
    columns += [Column("rarest class"), Column("ms network"), Column("ms scores")]
    DataTable("covered", "", "", columns, rows, strong).show(console)
    columns = [Column("agreement (IoU %)"), *map(Column, found.strategies)]
    rows = [[name, *_percent(*row)] for name, row in zip(found.strategies, found.agreement, strict=True)]
    DataTable("agreement", "", "", columns, rows).show(console)


def _percent(*shares: float) -> list[float]:
    return [100 * share for share in shares]


def _rarest(each: Figures, found: Comparison) -> str:
    """The pool's class with the fewest queried pixels, and their number."""
    pools = zip(each.class_pixels, found.classes, found.pool.class_pixels, strict=True)
    held = [(pixels, name) for pixels, name, pool in pools if pool]
    return "{1} {0:,}".format(*min(held)) if held else "–"  # where only void is left


def _csv_rows(found: Comparison) -> list[list[Any]]:
    """A heading, then a row a strategy; the last one is the pool."""
    rows: list[dict[str, Any]] = []
    shared = [*found.agreement, [math.nan] * len(found.strategies)]
    for (name, each), common in zip({**found.strategies, "(pool)": found.pool}.items(), shared, strict=True):
        row = {"strategy": name, **each._asdict()}
        del row["class_pixels"]
        row |= {f"seconds_{part}": value for part, value in found.seconds.get(name, {}).items()}
        row |= {f"pixels/{key}": value for key, value in zip(found.classes, each.class_pixels, strict=True)}
        rows.append(row | {f"agreement/{key}": value for key, value in zip(found.strategies, common, strict=True)})
    columns = list(rows[0])
    return [columns, *([row.get(column) for column in columns] for row in rows)]


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value
