"""``ripu-data check``: read every file of the data sets, count, and list all faults."""

import warnings
from collections import Counter
from dataclasses import dataclass, field

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.statistics import Statistics, keep_statistics, read_statistics
from ripu_lightning.data.workers import all_cores
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.early_checks import build_dataset

SHOWN = 20
"""Faults of one part that are printed; the rest is counted."""


@dataclass
class _Findings:
    dataset: SegmentationDataset | None = None
    statistics: Statistics | None = None
    faults: list[str] = field(default_factory=list)


def check(config: DictConfig, names: list[str]) -> None:
    """Check parts of ``config.data``; training does not read again what was read without a fault.

    Raises:
        UserError: there are faults; they have been printed.
    """
    cache, console, faults = DataCache(config.data.get("cache")), Console(), 0
    for name in names:
        findings = _read(config, name)
        if findings.dataset and findings.statistics:
            _print_counts(console, name, findings.dataset, findings.statistics)
            for note in [] if findings.faults else findings.dataset.notes():
                console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
            if not findings.faults:
                keep_statistics(findings.dataset, cache, findings.statistics)
                cache.mark_checked(findings.dataset, findings.dataset.has_labels)
        _print_faults(console, name, findings.faults)
        faults += len(findings.faults)
    if faults:
        raise UserError(f"data: {faults} fault(s), listed above: fix them and check again")


def _read(config: DictConfig, name: str) -> _Findings:
    findings = _Findings()
    # Where orphans are errors, they are listed one by one, after the faults of the pairs.
    one_by_one = config.data[name].get("orphans") == "error"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # printed below: as a fault, or as a note if there is no fault
            findings.dataset = build_dataset(config, name, **({"orphans": "skip"} if one_by_one else {}))
    except UserError as error:
        findings.faults.append(str(error))
        return findings
    if one_by_one:
        findings.faults += getattr(findings.dataset, "orphans", [])
    findings.statistics = read_statistics(
        findings.dataset, images=True, faults=findings.faults, workers=all_cores(), title=f"{name}: reading"
    )
    return findings


def _print_counts(console: Console, name: str, dataset: SegmentationDataset, statistics: Statistics) -> None:
    sizes = Counter((int(height), int(width)) for height, width in statistics.sizes if height)
    listed = ", ".join(f"{height}x{width} ({count})" for (height, width), count in sizes.most_common(5))
    more = f" and {len(sizes) - 5} more sizes" if len(sizes) > 5 else ""
    console.print(f"[bold]{name}[/]: {len(dataset)} images, height x width: {listed or 'none is readable'}{more}")
    if dataset.has_labels:
        console.print(_class_table(dataset, statistics))
    else:
        console.print("no labels")


def _class_table(dataset: SegmentationDataset, statistics: Statistics) -> Table:
    table = Table()
    table.add_column("class", overflow="fold")
    for column in ("pixels %", "images"):
        table.add_column(column, justify="right", no_wrap=True)
    pixels, ignored = statistics.pixels.sum(axis=0), statistics.ignored
    percent = 100 / max(pixels.sum() + ignored.sum(), 1)
    for label, class_name in enumerate(dataset.classes.names):
        images = (statistics.pixels[:, label] > 0).sum()
        table.add_row(class_name, f"{pixels[label] * percent:.3f}", str(images))
    table.add_row("(ignored)", f"{ignored.sum() * percent:.3f}", str((ignored > 0).sum()), style="dim")
    return table


def _print_faults(console: Console, name: str, faults: list[str]) -> None:
    console.print(f"{name}: {len(faults) or 'no'} fault{'s' if len(faults) != 1 else ''}")
    for fault in faults[:SHOWN]:
        console.print(f"  {fault}", markup=False, highlight=False, soft_wrap=True)
    if len(faults) > SHOWN:
        console.print(f"  ... and {len(faults) - SHOWN} more")
