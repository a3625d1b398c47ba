"""The report's page: one HTML file that needs nothing else, and the tables and charts next to it."""

import re
from base64 import b64encode
from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ripu_lightning.extras import import_extra
from ripu_lightning.files import explained, write_bytes
from ripu_lightning.report.chart_types import Chart
from ripu_lightning.report.data_table import DataTable
from ripu_lightning.report.matplotlib_charts import chart_file
from ripu_lightning.report.page.annotation_cost import AnnotationModel
from ripu_lightning.report.page.comparable_groups import Group, differences, group_runs
from ripu_lightning.report.page.gallery import RunGallery, run_gallery
from ripu_lightning.report.page.group_charts import charts_of
from ripu_lightning.report.page.group_statistics import GroupStatistics
from ripu_lightning.report.page.group_tables import all_runs, class_iou, class_shares, costs, labels_needed, summary
from ripu_lightning.report.page.recommendation import recommend, unequal_text
from ripu_lightning.report.page.run_folder import Run
from ripu_lightning.report.results_by_protocol import UNTOUCHED
from ripu_lightning.version import __version__

GALLERIES, IMAGES = 6, 2
"""Methods of a group in the gallery, and images of each: more would be too large for mail."""
_TABLES = ("summary", "labels_needed", "costs", "class_shares", "class_iou")
_CHARTS = ("curves", "budgets", "class_curves", "class_shares", "overlap")


@dataclass(frozen=True)
class Section:
    """One group of the page; ``name`` is that of its folder and anchors, ``problems`` say why charts are missing."""

    name: str
    group: Group
    recommendation: Sequence[str]
    tables: dict[str, DataTable]
    charts: Sequence[Chart]
    cautions: Sequence[str]
    problems: Sequence[str]
    galleries: Sequence[RunGallery]


def make_section(name: str, group: Group, model: AnnotationModel) -> Section:
    """The section of a group; ``model`` is for the estimated hours."""
    statistics, found = GroupStatistics(group), list[DataTable | None]()
    if group.methods:
        found = [summary(statistics), labels_needed(statistics), costs(statistics, model), class_shares(statistics)]
        found.append(class_iou(statistics))
    tables = {table.name: table for table in found if table is not None}
    charts, problems = charts_of(statistics, tables.get("class_shares"))
    cautions = [*group.cautions, *filter(None, map(unequal_text, statistics.levels))]
    return Section(name, group, recommend(statistics), tables, charts, cautions, problems, _galleries(group))


def write_page(runs: Sequence[Run], folder: Path, model: AnnotationModel) -> Path:
    """Write ``report.html`` and, for each group, its tables (CSV, LaTeX, Markdown) and charts (PNG, PDF).

    Files of an earlier report are replaced or removed; ``model`` is for the estimated hours.

    Raises:
        MissingPackage: jinja2 or plotly is not installed.
        UserError: a file cannot be written.
    """
    for package in ("jinja2", "plotly"):
        import_extra(package, "report", "report.html")
    sections = [make_section(f"group_{number}", group, model) for number, group in enumerate(group_runs(runs), start=1)]
    runs_table, path = all_runs(runs), folder / "report.html"
    files = {folder / name: content for name, content in _files(runs_table).items()}
    for section in sections:
        own = {name: content for table in section.tables.values() for name, content in _files(table).items()}
        own |= {f"{each.name}.{kind}": chart_file(each, kind) for each in section.charts for kind in ("png", "pdf")}
        files |= {folder / section.name / name: content for name, content in own.items()}
    pngs = {
        (each.name, item.name): files[folder / each.name / f"{item.name}.png"]
        for each in sections
        for item in each.charts
    }
    files[path] = _render(sections, runs_table, pngs).encode()
    for name, content in files.items():
        write_bytes(name, content, UNTOUCHED)
    _remove_surplus(folder, files.keys())
    return path


def _render(sections: Sequence[Section], runs: DataTable, pngs: dict[tuple[str, str], bytes]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    from ripu_lightning.report.page.plotly_charts import plotly_json

    loader = PackageLoader("ripu_lightning.report.page", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # In a script nothing is unescaped: a "<" inside JSON is written as its number.
    environment.filters["plotly_script"] = lambda chart: plotly_json(chart).replace("<", "\\u003c")
    return environment.get_template("report.html").render(
        sections=sections,
        differences=differences([section.group for section in sections]),
        runs=runs,
        png_uris={key: f"data:image/png;base64,{b64encode(png).decode()}" for key, png in pngs.items()},
        plotly=get_plotlyjs(),
        version=__version__,
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    )


def _galleries(group: Group) -> list[RunGallery]:
    found = list[RunGallery]()
    for method in group.of("queried"):
        shown = (run_gallery(f"{method.label}, seed {run.result.seed}", run, IMAGES) for run in method.runs)
        first = next((each for each in shown if each is not None), None)
        found += [first] if first and len(found) < GALLERIES else []
    return found


def _files(table: DataTable) -> dict[str, bytes]:
    texts = {"csv": table.csv(), "tex": table.latex(), "md": table.markdown()}
    return {f"{table.name}.{kind}": text.encode() for kind, text in texts.items()}


def _remove_surplus(folder: Path, written: Set[Path]) -> None:
    """Remove what an earlier report wrote for groups and charts that no longer exist, and nothing else."""
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
