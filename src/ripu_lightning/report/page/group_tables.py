"""The tables of a group of comparable runs."""

from collections.abc import Callable, Iterable, Sequence

from ripu_lightning.report.data_table import Cell, Column, DataTable, percent
from ripu_lightning.report.ledger import Ledger
from ripu_lightning.report.page.annotation_cost import AnnotationModel
from ripu_lightning.report.page.comparable_groups import Method
from ripu_lightning.report.page.group_statistics import GroupStatistics, compared, curve, final, share
from ripu_lightning.report.page.run_folder import Run
from ripu_lightning.report.page.seed_statistics import Mean, mean_of

PARTS = (0.90, 0.95, 0.99)
"""Of the bound, for which the table says how many labels they need."""

_LABELLED = Column("labelled, % of the pool's pixels", 2)
_HALF = "± (95%)"


def summary(statistics: GroupStatistics) -> DataTable:
    """Each method's final mIoU, and whether it is distinguishable from the best of its budget."""
    methods, bound = statistics.group.methods, statistics.wanted(1.0)
    rows: list[list[Cell]] = []
    best = [statistics.best(level) for level in statistics.levels]
    for method in methods:
        reached, queried = final(method), method.kind == "queried"
        difference = statistics.difference(method) if queried else None
        part = 100 * reached.value / bound if bound else None
        figures = (*_mean_and_half(reached), part, *_mean_and_half(difference))
        verdict = _compared(statistics, method, difference) if queried else ""
        rows.append([method.label, 100 * share(method), *figures, verdict, len(method.seeds), method.budget])
    titles = ["mIoU %", _HALF, "% of the bound", "minus the best of its budget", f"difference {_HALF}"]
    titles += ["distinguishable?", "seeds", "budget"]
    note = (
        "mIoU after the last round, mean over seeds; ±: half the width of its 95% interval (Student's t). Differences "
        "are paired: seed by seed, then averaged. A method is distinguishable from the best of its budget where the "
        "interval of their difference does not hold 0. Intervals are not widened for the number of comparisons. Best "
        "of a budget: the highest mean over the seeds that all its methods of two seeds or more have (over each "
        "method's own seeds where those are less than two)."
    )
    strong = frozenset(index for index, method in enumerate(methods) if method in best)
    columns = [Column("method"), _LABELLED, *map(Column, titles)]
    return DataTable("summary", "Final mIoU", note, columns, rows, strong)


def _compared(statistics: GroupStatistics, method: Method, difference: Mean | None) -> str:
    level = statistics.level_of(method)
    if statistics.best(level) is method:
        return "best" if len(level) > 1 else "the only one of its budget"
    return compared(difference)


def labels_needed(statistics: GroupStatistics) -> DataTable | None:
    """How many labels each method needs for parts of the bound, and the area under its curve; None without a method."""
    rows = []
    for method in statistics.group.of("queried"):
        parts = [_needed(statistics, method, part) for part in PARTS]
        rows.append([method.label, method.budget, *parts, *_area(statistics, method)])
    bound = f" The bound is {100 * final(statistics.bound).value:.1f}% mIoU." if statistics.bound else ""
    columns = [Column("method"), Column("budget"), *(Column(f"{part:.0%} of the bound", 2) for part in PARTS)]
    columns += [Column("area under the curve, %"), Column(_HALF), Column("area up to, % labelled", 2)]
    note = (
        "Share of the pool's pixels, in %, from which on the curve of the mean mIoU keeps a part of the bound (what "
        "all labels reach), linear between the rounds and never beyond the last; without a table of rounds in every "
        f"seed, the share at the end.{bound} Area under the curve: the mean of mIoU over the labelled share, from 0 to "
        "where the methods of the same budget have a figure (trapezoids, divided by that range). A method that "
        "labelled far less than most of them does not shorten the range, and has no area."
    )
    return DataTable("labels_needed", "Labels needed, and area under the curve", note, columns, rows) if rows else None


def _needed(statistics: GroupStatistics, method: Method, part: float) -> Cell:
    if statistics.wanted(part) is None:
        return None
    first, kept = statistics.reached(method, part)
    if kept is not None:
        return 100 * kept
    return "not reached" if first is None else f"at {100 * first:.2f}, then lost"


def _area(statistics: GroupStatistics, method: Method) -> list[Cell]:
    area, stop = statistics.area(method), 100 * statistics.area_end(statistics.level_of(method))
    if area is not None:
        return [*_mean_and_half(area), stop]
    return ["curve too short", None, stop] if curve(method)[0] else ["no curve", None, None]


def class_iou(statistics: GroupStatistics) -> DataTable:
    """IoU of each class after the last round."""
    methods = statistics.group.methods
    names = list(methods[0].runs[0].result.iou)
    rows = [[name, *(_percent_of(run.result.iou[name] for run in method.runs) for method in methods)] for name in names]
    note = "IoU in % after the last round, mean over seeds; none for a class without truth in the evaluation data."
    columns = [Column("class"), *(Column(each.label) for each in methods)]
    return DataTable("class_iou", "IoU by class", note, columns, rows)


def class_shares(statistics: GroupStatistics) -> DataTable | None:
    """The classes of the labelled pixels, and their shares of the pool; None without a ledger."""
    methods = [method for method in statistics.group.of("queried") if _ledgers(method)]
    if not methods:
        return None
    ledgers = [ledger for method in statistics.group.methods for ledger in _ledgers(method)]
    pool = next((ledger.pool.classes for ledger in ledgers if ledger.pool), [0] * len(ledgers[0].classes))
    counts = [[pool], *([ledger.class_pixels() for ledger in _ledgers(method)] for method in methods)]
    columns = [map(_percent_of, zip(*map(_shares, each), strict=True)) for each in counts]
    rows = list(zip(ledgers[0].classes, *columns, strict=True))
    note = "Share of each class, in % of the pixels with a class: of the labelled ones, mean over seeds; of the pool."
    titles = [Column("class"), Column("pool", 2), *(Column(method.label, 2) for method in methods)]
    return DataTable("class_shares", "Classes of the labels", note, titles, rows)


def _shares(pixels: Sequence[int]) -> list[float | None]:
    return [_share(each, sum(pixels)) for each in pixels]


def costs(statistics: GroupStatistics, model: AnnotationModel) -> DataTable | None:
    """The ledger of each method, mean over seeds; None where no run has one."""
    methods = [method for method in statistics.group.methods if _ledgers(method)]
    if not methods:
        return None
    pools = [ledger.pool for method in methods for ledger in _ledgers(method) if ledger.pool]
    edge = f" In the pool, {100 * pools[0].boundary / max(1, sum(pools[0].classes)):.1f}% are there." if pools else ""
    note = (
        "Means over seeds. A query of one pixel is one click; a larger one takes a click for each class in its answer, "
        "and one for its void. Void: queried pixels that have no class. Kept: answered pixels that the resize to the "
        "training size keeps. Boundary: answered pixels with a neighbour (above, below, left, right) of another "
        f"class in the truth.{edge} {model.text()} All labels: every image of the pool as a whole."
    )
    columns = [Column("method"), Column("region type")]
    columns += [Column(title, 0) for title in ("queries", "clicks", "pixels", "images")]
    columns += [Column(title) for title in ("% of images", "void %", "kept %", "boundary %", "hours (estimated)")]
    return DataTable("costs", "What the labels cost", note, columns, [_costs(method, model) for method in methods])


def _costs(method: Method, model: AnnotationModel) -> list[Cell]:
    ledgers = _ledgers(method)
    first = ledgers[0]
    if method.kind == "all":
        void = percent(_share(first.pool.void, first.pixels)) if first.pool else None
        hours = model.whole * first.images / 3600
        return [method.label, "image", None, None, first.pixels, first.images, 100.0, void, None, None, hours]

    def mean(figure: Callable[[Ledger], float]) -> float:
        return mean_of([figure(ledger) for ledger in ledgers]).value

    def total(name: str) -> float:
        return mean(lambda ledger: ledger.total(name) or 0)

    pixels, void, images = total("pixels"), total("void"), total("new_images")
    unknown = any(ledger.total("boundary") is None for ledger in ledgers)
    parts = [(images, first.images), (void, pixels), (total("kept"), pixels - void)]
    shares = [*(_share(*part) for part in parts), None if unknown else _share(total("boundary"), pixels - void)]
    hours = mean(lambda ledger: model.seconds(ledger) / 3600)
    counts = [total("queries"), total("clicks"), pixels, images]
    return [method.label, first.region_type, *counts, *map(percent, shares), hours]


def all_runs(runs: Sequence[Run]) -> DataTable:
    """Every run with its state, what could not be read, and warnings."""
    columns = [Column(title) for title in ("folder", "name", "strategy", "state", "seed")]
    columns += [_LABELLED, Column("mIoU %"), Column("code"), Column("problems")]
    states = {"queried": "finished", "all": "finished, all labels", "none": "finished, no labels"}
    rows: list[list[Cell]] = []
    for run in runs:
        result = run.result
        code = f"{result.code['version']} {(result.code['commit'] or '')[:8]}"
        figures = map(percent, (result.budget["share"], result.miou))
        missing = "; ".join(line.removeprefix(f"{run.folder}/") for line in run.problems)
        state = states.get(run.kind, run.kind)
        rows.append([str(run.folder), result.name, result.strategy, state, str(result.seed), *figures, code, missing])
    note = "Unfinished runs, and those without mIoU or whose budget is not known, are left out of all means."
    return DataTable("runs", "Runs", note, columns, rows)


def _ledgers(method: Method) -> list[Ledger]:
    return [run.ledger for run in method.runs if run.ledger is not None]


def _percent_of(values: Iterable[float | None]) -> float | None:
    """Mean in %, of the values that are there."""
    found = [value for value in values if value is not None]
    return 100 * mean_of(found).value if found else None


def _mean_and_half(mean: Mean | None) -> tuple[float | None, float | None]:
    return (percent(mean.value), percent(mean.half)) if mean else (None, None)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
