"""The report: one HTML file that needs nothing else, and the tables and figures beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from ripu_lightning import __version__
from ripu_lightning.errors import UserError
from ripu_lightning.labels.files import explained, replacing
from ripu_lightning.report.charts import Chart, charts_of
from ripu_lightning.report.comparing import Comparison
from ripu_lightning.report.costs import AnnotationModel
from ripu_lightning.report.data_uri import png_uri
from ripu_lightning.report.figures import saved
from ripu_lightning.report.gallery import Exhibit, exhibit
from ripu_lightning.report.groups import Group, about, differences, group_runs
from ripu_lightning.report.plots import plot
from ripu_lightning.report.runs import Run
from ripu_lightning.report.sheet import Sheet
from ripu_lightning.report.sheets import all_runs, class_iou, class_shares, costs, labels_needed, summary
from ripu_lightning.report.verdict import answer

EXHIBITS, IMAGES = 6, 2
"""Methods of a group in the gallery, and images of each: more would not go by mail."""
_NOTE = "the runs themselves are untouched"


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
    def comparison(self) -> Comparison:
        """Its figures."""
        return Comparison(self.group)

    @property
    def about(self) -> str:
        """What its runs have in common."""
        return about(self.group)

    @cached_property
    def answer(self) -> list[str]:
        """The headline first."""
        return answer(self.comparison)

    @cached_property
    def summary(self) -> Sheet | None:
        """Its first table; None where no run is finished."""
        return summary(self.comparison) if self.group.methods else None

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """All other tables by name."""
        if not self.group.methods:
            return {}
        found = [labels_needed(self.comparison), costs(self.comparison, self.model)]
        found += [class_shares(self.comparison), class_iou(self.comparison)]
        return {sheet.name: sheet for sheet in found if sheet is not None}

    @cached_property
    def charts(self) -> list[tuple[Chart, str, bytes]]:
        """Each with its plotly JSON and its PNG."""
        charts = charts_of(self.comparison, self.sheets.get("class_shares"))
        return [(chart, plot(chart), saved(chart, "png")) for chart in charts]

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
    _write_sheet(folder, runs_sheet)
    for section in sections:
        for sheet in [*([section.summary] if section.summary else []), *section.sheets.values()]:
            _write_sheet(folder / section.name, sheet)
        for chart, _, png in section.charts:
            _write(folder / section.name / f"{chart.name}.png", png)
            _write(folder / section.name / f"{chart.name}.pdf", saved(chart, "pdf"))
    path = folder / "report.html"
    _write(path, render(sections, runs_sheet).encode())
    return path


def render(sections: Sequence[Section], runs: Sheet) -> str:
    """The page."""
    loader = PackageLoader("ripu_lightning.report", "templates")
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


def _write_sheet(folder: Path, sheet: Sheet) -> None:
    for kind, text in (("csv", sheet.csv()), ("tex", sheet.latex()), ("md", sheet.markdown())):
        _write(folder / f"{sheet.name}.{kind}", text.encode())


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{path.parent}: is a file; choose another --output") from error
    except OSError as error:
        raise UserError(f"{path.parent}: {error.strerror}; choose another --output") from error
    with explained(path, _NOTE), replacing(path, _NOTE) as file:
        file.write(content)
