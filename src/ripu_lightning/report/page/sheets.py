"""The tables of a group."""

from collections.abc import Sequence

from ripu_lightning.report.ledger import Ledger
from ripu_lightning.report.page.costs import AnnotationModel
from ripu_lightning.report.page.groups import Method
from ripu_lightning.report.page.runs import Run
from ripu_lightning.report.page.sheet import Cell, Column, Sheet
from ripu_lightning.report.page.standings import Standings, curve, final, share, told
from ripu_lightning.report.page.statistics import Mean, mean_of

PARTS = (0.90, 0.95, 0.99)
"""Of the bound, for which the labels needed are told."""

_LABELLED = "labels bought, % of the pool's pixels"
_HALF = "± (95%)"


def summary(standings: Standings) -> Sheet:
    """Each method's final mIoU, and whether it can be told from the best of its budget."""
    methods, bound = standings.group.methods, standings.wanted(1.0)
    rows: list[list[Cell]] = []
    best = [standings.best(level) for level in standings.levels]
    for method in methods:
        reached = final(method)
        part = 100 * reached.value / bound if bound else None
        difference = standings.difference(method) if method.kind == "bought" else None
        compared = (100 * difference.value, _half(difference)) if difference else (None, None)
        figures = (100 * reached.value, _half(reached), part, *compared)
        verdict = _verdict(standings, method, difference)
        rows.append([method.label, 100 * share(method), *figures, verdict, len(method.seeds), method.budget])
    columns = ["method", _LABELLED, "mIoU %", _HALF, "% of the bound", "minus the best of its budget"]
    columns += [f"difference {_HALF}", "told apart?", "seeds", "budget"]
    digits = {_LABELLED: 2}
    return Sheet(
        "summary",
        "Final mIoU",
        "mIoU after the last round, mean over seeds; ±: half the width of its 95% interval (Student's t). Differences "
        "are paired: seed by seed, then averaged. A method can be told from the best of its budget where the interval "
        "of their difference does not hold 0. Intervals are not widened for the number of comparisons. Best of a "
        "budget: the highest mean over the seeds that all its methods of two seeds or more have (over the own seeds "
        "where those are less than two).",
        [Column(title, digits.get(title, 1)) for title in columns],
        rows,
        frozenset(index for index, method in enumerate(methods) if method in best),
    )


def _verdict(standings: Standings, method: Method, difference: Mean | None) -> str:
    if method.kind != "bought":
        return ""
    level = standings.level_of(method)
    if standings.best(level) is method:
        return "best" if len(level) > 1 else "the only one of its budget"
    return told(difference)


def labels_needed(standings: Standings) -> Sheet | None:
    """How many labels each method needs for parts of the bound, and the area under its curve; None without a method."""
    methods = standings.group.of("bought")
    rows = []
    for method in methods:
        parts = [_needed(standings, method, part) for part in PARTS]
        rows.append([method.label, method.budget, *parts, *_area(standings, method)])
    bound = f" The bound is {100 * final(standings.bound).value:.1f}% mIoU." if standings.bound else ""
    columns = [Column("method"), Column("budget"), *(Column(f"{part:.0%} of the bound", 2) for part in PARTS)]
    columns += [Column("area under the curve, %"), Column(_HALF), Column("area up to, % bought", 2)]
    note = (
        "Share of the pool's pixels, in %, from which on the curve of the mean mIoU keeps a part of the bound (what "
        "all labels reach), linear between the rounds and never beyond the last; without a table of rounds in every "
        f"seed, the whole share bought.{bound} Area under the curve: the mean of mIoU over the share bought, from 0 to "
        "where the methods of the same budget have a figure (trapezoids, divided by that range). A method that bought "
        "far less than most of them does not shorten the range, and has no area."
    )
    return Sheet("labels_needed", "Labels needed, and area under the curve", note, columns, rows) if rows else None


def _needed(standings: Standings, method: Method, part: float) -> Cell:
    if standings.wanted(part) is None:
        return None
    first, kept = standings.reached(method, part)
    if kept is not None:
        return 100 * kept
    return "not reached" if first is None else f"at {100 * first:.2f}, then lost"


def _area(standings: Standings, method: Method) -> list[Cell]:
    area, stop = standings.area(method), 100 * standings.area_end(standings.level_of(method))
    if area is not None:
        return [100 * area.value, _half(area), stop]
    return ["curve too short", None, stop] if curve(method).shares else ["no curve", None, None]


def class_iou(standings: Standings) -> Sheet:
    """IoU of each class after the last round."""
    methods = standings.group.methods
    names = list(methods[0].runs[0].result.iou)
    rows = [[name, *(_mean([run.result.iou[name] for run in method.runs]) for method in methods)] for name in names]
    note = "IoU in % after the last round, mean over the seeds in which the class occurs."
    return Sheet("class_iou", "IoU by class", note, [Column("class"), *(Column(each.label) for each in methods)], rows)


def class_shares(standings: Standings) -> Sheet | None:
    """Which classes the bought pixels belong to, against their share of the pool; None without a ledger."""
    methods = [method for method in standings.group.of("bought") if _ledgers(method)]
    if not methods:
        return None
    ledgers = [ledger for method in standings.group.methods for ledger in _ledgers(method)]
    pool = next((ledger.pool for ledger in ledgers if ledger.pool), None)
    names = ledgers[0].classes
    shares = [[_mean(row) for row in zip(*map(_shares, _ledgers(method)), strict=True)] for method in methods]
    whole = _shares_of(pool.classes) if pool else [None] * len(names)
    rows = [
        [name, None if part is None else 100 * part, *(column[index] for column in shares)]
        for index, (name, part) in enumerate(zip(names, whole, strict=True))
    ]
    columns = [Column("class"), Column("pool", 2), *(Column(method.label, 2) for method in methods)]
    note = "Share of each class, in % of the pixels with a class: of those bought, mean over seeds, and of the pool's."
    return Sheet("class_shares", "What was bought", note, columns, rows)


def costs(standings: Standings, model: AnnotationModel) -> Sheet | None:
    """The ledger of each method, mean over seeds; None where no run has one."""
    methods = [method for method in standings.group.methods if _ledgers(method)]
    if not methods:
        return None
    rows = [[method.label, _geometry(method), *_costs(method, model)] for method in methods]
    pools = [ledger.pool for method in methods for ledger in _ledgers(method) if ledger.pool]
    edge = f" In the pool, {100 * pools[0].boundary / max(1, sum(pools[0].classes)):.1f}% lie there." if pools else ""
    note = (
        "Means over seeds. A pick of one pixel is one click; a larger one takes a click for each class in its answer, "
        "and one for its void. Void: pixels asked that have no class. Survive: answered pixels that the resize to the "
        "training size looks at. Boundary: answered pixels with a neighbour (above, below, left, right) of another "
        f"class in the truth.{edge} {model.text()} All labels: every image of the pool as a whole."
    )
    columns = [Column("method"), Column("picks of")]
    columns += [Column(title, 0) for title in ("regions", "clicks", "pixels", "images touched")]
    columns += [Column(title) for title in ("% of images", "void %", "survive %", "boundary %", "hours (estimated)")]
    return Sheet("costs", "What the labels cost", note, columns, rows)


def _geometry(method: Method) -> str:
    return "image" if method.kind == "all" else _ledgers(method)[0].geometry


def _costs(method: Method, model: AnnotationModel) -> list[Cell]:
    ledgers = _ledgers(method)
    if method.kind == "all":
        images = ledgers[0].images
        void = _ratio(ledgers[0].pool.void, ledgers[0].pixels) if ledgers[0].pool else None
        return [None, None, ledgers[0].pixels, images, 100.0, void, None, None, model.whole * images / 3600]

    def mean(name: str) -> float:
        return _mean_of([ledger.total(name) or 0 for ledger in ledgers])

    answered = mean("pixels") - mean("void")
    boundary = None if any(ledger.total("boundary") is None for ledger in ledgers) else mean("boundary")
    touched, hours = mean("new_images"), _mean_of([model.seconds(ledger) / 3600 for ledger in ledgers])
    return [
        *(mean("queries"), mean("clicks"), mean("pixels"), touched, _ratio(touched, ledgers[0].images)),
        *(_ratio(mean("void"), mean("pixels")), _ratio(mean("kept"), answered)),
        *(None if boundary is None else _ratio(boundary, answered), hours),
    ]


def all_runs(runs: Sequence[Run]) -> Sheet:
    """Every run with its state and what could not be read."""
    columns = [Column(title) for title in ("folder", "name", "strategy", "state", "seed")]
    columns += [Column(_LABELLED, 2), Column("mIoU %"), Column("code"), Column("missing")]
    states = {"bought": "finished", "all": "finished, all labels", "none": "finished, no labels"}
    rows: list[list[Cell]] = []
    for run in runs:
        result, share_ = run.result, run.result.budget["share"]
        code = f"{result.code['version']} {(result.code['commit'] or '')[:8]}"
        figures = [None if value is None else 100 * value for value in (share_, result.miou)]
        lacks = "; ".join(line.removeprefix(f"{run.folder}/") for line in run.lacks)
        state = states.get(run.kind, run.kind)
        rows.append([str(run.folder), result.name, result.strategy, state, result.seed, *figures, code, lacks])
    note = "Unfinished runs, and those without mIoU or whose budget is not known, are left out of all means."
    return Sheet("runs", "Runs", note, columns, rows)


def _ledgers(method: Method) -> list[Ledger]:
    return [run.ledger for run in method.runs if run.ledger is not None]


def _shares(ledger: Ledger) -> list[float | None]:
    return _shares_of(ledger.bought())


def _shares_of(pixels: Sequence[int]) -> list[float | None]:
    total = sum(pixels)
    return [each / total if total else None for each in pixels]


def _mean(values: Sequence[float | None]) -> float | None:
    """In %, of those that are there."""
    found = [value for value in values if value is not None]
    return 100 * _mean_of(found) if found else None


def _mean_of(values: Sequence[float]) -> float:
    return mean_of(values).value


def _half(mean: Mean) -> float | None:
    return None if mean.half is None else 100 * mean.half


def _ratio(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole else None
