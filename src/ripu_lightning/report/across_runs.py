"""The report over many runs: what ``ripu-report`` does, as a function."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from ripu_lightning.report.page.annotation_cost import AnnotationModel
from ripu_lightning.report.page.html_page import write_page
from ripu_lightning.report.page.run_folder import read_run
from ripu_lightning.report.results_by_protocol import StoredResult, read_results, write_results


class Report(NamedTuple):
    """The results that were read, each with its file, and the page that was written."""

    results: list[StoredResult]
    page: Path


def report(
    folders: Sequence[str | PathLike[str]], output: str | PathLike[str] = "report", model: AnnotationModel | None = None
) -> Report:
    """Write the HTML page over many runs, their tables and charts, and ``results.csv``.

    Args:
        folders: of runs, evaluations or sweeps, at any depth, or ``result.json`` files.
        output: folder of the report; made if missing, and files of an earlier report are replaced.
        model: seconds that annotation takes, for the estimated hours.

    Raises:
        MissingPackage: the extra ``report`` is not installed; nothing is written, ``results.csv`` neither.
        UserError: there is no result in a folder, or a file cannot be read or written.
    """
    results = read_results([Path(folder) for folder in folders])
    page = write_page([read_run(each) for each in results], Path(output), model or AnnotationModel())
    write_results(results, Path(output) / "results.csv")
    return Report(results, page)
