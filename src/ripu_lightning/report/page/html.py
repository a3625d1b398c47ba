"""The report: one HTML file that needs nothing else, and the tables and figures beside it."""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from ripu_lightning import __version__
from ripu_lightning.errors import UserError
from ripu_lightning.files import explained, replacing
from ripu_lightning.report.entries import UNTOUCHED
from ripu_lightning.report.page.charts import Chart, charts_of
from ripu_lightning.report.page.costs import AnnotationModel
from ripu_lightning.report.page.data_uri import png_uri
from ripu_lightning.report.page.figures import saved
from ripu_lightning.report.page.gallery import Exhibit, exhibit
from ripu_lightning.report.page.groups import Group, about, differences, group_runs
from ripu_lightning.report.page.plots import plot
from ripu_lightning.report.page.runs import Run
from ripu_lightning.report.page.sheet import Sheet
from ripu_lightning.report.page.sheets import all_runs, class_iou, class_shares, costs, labels_needed, summary
from ripu_lightning.report.page.standings import Standings
from ripu_lightning.report.page.verdict import answer, bought

EXHIBITS, IMAGES = 6, 2
"""Methods of a group in the gallery, and images of each: more would not go by mail."""
_TABLES = ("summary", "labels_needed", "costs", "class_shares", "class_iou")
_CHARTS = ("curves", "budgets", "class_curves", "class_shares", "overlap")


@dataclass(frozen=True)
class Section:
    """One group of the page.

    Attributes:
        name: of its folder, and of its anchors.
        group: its runs.
        model: for the estimated hours.
    """

    name: str
    group: Group
    model: AnnotationModel

    @cached_property
    def standings(self) -> Standings:
        """Its figures."""
        return Standings(self.group)

    @property
    def about(self) -> str:
        """What its runs have in common."""
        return about(self.group)

    @cached_property
    def answer(self) -> list[str]:
        """The headline first."""
        return answer(self.standings)

    @cached_property
    def summary(self) -> Sheet | None:
        """Its first table; None where no run is finished."""
        return summary(self.standings) if self.group.methods else None

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """All other tables by name."""
        if not self.group.methods:
            return {}
        found = [labels_needed(self.standings), costs(self.standings, self.model)]
        found += [class_shares(self.standings), class_iou(self.standings)]
        return {sheet.name: sheet for sheet in found if sheet is not None}

    @property
    def cautions(self) -> list[str]:
        """What stands against comparing its runs."""
        return [*self.group.cautions, *filter(None, map(bought, self.standings.levels))]

    @cached_property
    def _drawn(self) -> tuple[list[Chart], list[str]]:
        return charts_of(self.standings, self.sheets.get("class_shares"))

    @cached_property
    def charts(self) -> list[tuple[Chart, str, bytes]]:
        """Each with its plotly JSON and its PNG."""
        return [(chart, plot(chart), saved(chart, "png")) for chart in self._drawn[0]]

    @property
    def faults(self) -> list[str]:
        """Why charts are missing."""
        return self._drawn[1]

    @cached_property
    def exhibits(self) -> list[Exhibit]:
        """The first pictured seed of each method that bought labels."""
        found = list[Exhibit]()
        for method in self.group.of("bought"):
            shown = (exhibit(f"{method.label}, seed {run.result.seed}", run, IMAGES) for run in method.runs)
            first = next((each for each in shown if each is not None), None)
            found += [first] if first and len(found) < EXHIBITS else []
        return found


def write_report(runs: Sequence[Run], folder: Path, model: AnnotationModel) -> Path:
    """Write ``report.html`` and, for each group, its tables (CSV, LaTeX, Markdown) and figures (PNG, PDF).

    Args:
        runs: what to report on.
        folder: made if missing; files of an earlier report are replaced.
        model: for the estimated hours.

    Returns:
        The page.

    Raises:
        UserError: a file can not be written.
    """
    sections = [Section(f"group_{number}", group, model) for number, group in enumerate(group_runs(runs), start=1)]
    runs_sheet = all_runs(runs)
    path = folder / "report.html"
    files = {folder / name: content for name, content in _files(runs_sheet).items()}
    for section in sections:
        for sheet in [*([section.summary] if section.summary else []), *section.sheets.values()]:
            files |= {folder / section.name / name: content for name, content in _files(sheet).items()}
        for chart, _, png in section.charts:
            files[folder / section.name / f"{chart.name}.png"] = png
            files[folder / section.name / f"{chart.name}.pdf"] = saved(chart, "pdf")
    files[path] = render(sections, runs_sheet).encode()
    for name, content in files.items():
        _write(name, content)
    _remove_surplus(folder, files.keys())
    return path


def render(sections: Sequence[Section], runs: Sheet) -> str:
    """The page."""
    loader = PackageLoader("ripu_lightning.report.page", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["png_uri"] = png_uri
    # In a script nothing is unescaped: a "<" inside JSON is written as its number.
    environment.filters["in_script"] = lambda text: text.replace("<", "\\u003c")
    return environment.get_template("report.html").render(
        sections=sections,
        differences=differences([section.group for section in sections]),
        runs=runs,
        plotly=get_plotlyjs(),
        version=__version__,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    )


def _files(sheet: Sheet) -> dict[str, bytes]:
    texts = {"csv": sheet.csv(), "tex": sheet.latex(), "md": sheet.markdown()}
    return {f"{sheet.name}.{kind}": text.encode() for kind, text in texts.items()}


def _remove_surplus(folder: Path, written: Set[Path]) -> None:
    """Remove what an earlier report wrote for groups and charts that are no more, and nothing else."""
    known = [f"{name}.{kind}" for name in _TABLES for kind in ("csv", "tex", "md")]
    known += [f"{name}.{kind}" for name in _CHARTS for kind in ("png", "pdf")]
    for place in folder.glob("group_*"):
        if not re.fullmatch(r"group_\d+", place.name) or place.is_symlink() or not place.is_dir():
            continue
        for path in {place / name for name in known} - written:
            with explained(path, UNTOUCHED):
                path.unlink(missing_ok=True)
        if not any(place.iterdir()):
            place.rmdir()


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{path.parent}: is a file; choose another --output") from error
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}; choose another --output") from error
    with explained(path, UNTOUCHED), replacing(path, UNTOUCHED) as file:
        file.write(content)
