"""``ripu-report``: results of several runs beside each other, figures of different protocols in tables of their own."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.errors import UserError
from ripu_lightning.report.comparison import print_comparison, read_entries, write_comparison


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point; a mistake prints one line and exits with 1."""
    options = _parser().parse_args(arguments)
    try:
        entries = read_entries(options.paths)
        if options.csv is not None:
            write_comparison(entries, options.csv)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    print_comparison(entries)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ripu-report", description="Results of several runs, one table per protocol.")
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a result.json, or a folder of runs, evaluations or a sweep"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write all figures as CSV")
    return parser


if __name__ == "__main__":
    main()
