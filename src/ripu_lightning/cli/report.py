"""``ripu-report``: results of many runs, as tables in the terminal and as a page to send to others."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.extras import MissingPackage
from ripu_lightning.report.across_runs import report
from ripu_lightning.report.page.annotation_cost import AnnotationModel
from ripu_lightning.report.results_by_protocol import print_results, read_results
from ripu_lightning.version import __version__


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point; a mistake prints one line and exits with 1."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        model = AnnotationModel(options.click, options.visit, options.whole)
    except InvalidArgument as error:
        parser.error(f"--{error.argument}: {error.problem}")
    try:
        found = report(options.paths, options.output or Path("report"), model)
        print_results(found.results)
        print(f"report: {found.page}")
    except MissingPackage as error:
        print_results(read_results(options.paths))
        print(f"no page was written: {error}", file=sys.stderr)
        sys.exit(1 if options.output else 0)  # who names its folder wants the page
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    model = AnnotationModel()
    parser = argparse.ArgumentParser(
        prog="ripu-report",
        description="Results of several runs, and a page that recommends a strategy and a budget.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a result.json, or a folder of runs, evaluations or a sweep"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="of the report (report)")
    for name, what in (
        ("click", "one click"),
        ("visit", "opening an image in a round"),
        ("whole", "labelling all pixels of an image"),
    ):
        text = f"seconds that {what} takes, for the estimated hours ({getattr(model, name):g})"
        parser.add_argument(f"--{name}", type=float, default=getattr(model, name), metavar="SECONDS", help=text)
    return parser


if __name__ == "__main__":
    main()
