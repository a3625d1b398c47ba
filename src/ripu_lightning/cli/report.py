"""``ripu-report``: runs beside each other, as tables in the terminal and as a page to be sent to others."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.errors import UserError
from ripu_lightning.report.entries import print_results, read_entries, write_results
from ripu_lightning.report.page.costs import AnnotationModel
from ripu_lightning.report.page.html import write_report
from ripu_lightning.report.page.runs import read_run


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point; a mistake prints one line and exits with 1."""
    options = _parser().parse_args(arguments)
    try:
        entries = read_entries(options.paths)
        model = AnnotationModel(options.click, options.visit, options.whole)
        page = write_report([read_run(entry) for entry in entries], options.output, model)
        write_results(entries, options.output / "results.csv")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print_results(entries)
    print(f"report: {page}")


def _parser() -> argparse.ArgumentParser:
    model = AnnotationModel()
    parser = argparse.ArgumentParser(
        prog="ripu-report",
        description="Results of several runs, and a page that tells which strategy and budget to use.",
    )
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a result.json, or a folder of runs, evaluations or a sweep"
    )
    parser.add_argument("--output", type=Path, default=Path("report"), metavar="FOLDER", help="of the report (report)")
    for name, what in (
        ("click", "one click"),
        ("visit", "a visit of an image in a round"),
        ("whole", "all pixels of an image"),
    ):
        text = f"seconds that {what} takes, for the estimated hours ({getattr(model, name):g})"
        parser.add_argument(f"--{name}", type=_seconds, default=getattr(model, name), metavar="SECONDS", help=text)
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"expected seconds, 0 or more, got {text}")
    return value


if __name__ == "__main__":
    main()
