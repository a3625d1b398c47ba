"""``ripu-labels``: look at label stores, check, export and merge them, and put other rounds in force."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.cli.labels_commands import export, merge, rollback, show, verify
from ripu_lightning.errors import DISK_FULL, UserError

_STORE = "a label store, or a run's folder with one in labels/"
_NOTE = (
    "No command deletes or overwrites answers. The exit code is 1 for a mistake, and where a committed round that the "
    "command reads is damaged or missing: the others are used, and it is named."
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Console entry point; a mistake prints one line and exits with 1."""
    options = vars(_parser().parse_args(arguments))
    command = options.pop("run")
    try:
        code = command(**options)
    except UserError as error:
        code = _fail(str(error))
    except KeyboardInterrupt:
        code = _fail("interrupted; the label stores are as they were") + 129
    except OSError as error:
        if not error.filename:
            raise
        mend = "free some space" if error.errno in DISK_FULL else "check the path and its permissions"
        code = _fail(f"{error.filename}: {error.strerror}; {mend}")
    if code:
        sys.exit(code)


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ripu-labels", description="Label stores: what was asked and what was answered.", epilog=_NOTE
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="the rounds, in force and set aside", epilog=_NOTE)
    listing.set_defaults(run=show)
    listing.add_argument("store", type=Path, metavar="STORE", help=_STORE)

    verifying = commands.add_parser("verify", help="read every file whole and compare its SHA-256", epilog=_NOTE)
    verifying.set_defaults(run=verify)
    verifying.add_argument("store", type=Path, metavar="STORE", help=_STORE)

    rolling = commands.add_parser("rollback", help="put other rounds in force, back or forth", epilog=_NOTE)
    rolling.set_defaults(run=rollback)
    rolling.add_argument("store", type=Path, metavar="STORE", help=_STORE)
    rolling.add_argument(
        "to", metavar="TO", help="number of the last round in force (0 for none), or first 6 digits of any round's id"
    )

    exporting = commands.add_parser("export", help="masks for other programs", epilog=_NOTE)
    exporting.set_defaults(run=export)
    exporting.add_argument("store", type=Path, metavar="STORE", help=_STORE)
    exporting.add_argument("folder", type=Path, metavar="FOLDER", help="made; it may exist if it is empty")
    exporting.add_argument(
        "--format",
        dest="kind",
        choices=("png", "coco"),
        required=True,
        help="png: ID.png an image, class indices, 255 elsewhere; coco: annotations.json (needs the extra coco)",
    )
    exporting.add_argument("--through", type=int, metavar="N", help="count the rounds 1 to N only")

    merging = commands.add_parser("merge", help="the rounds in force of several stores as one store", epilog=_NOTE)
    merging.set_defaults(run=merge)
    merging.add_argument("stores", nargs="+", type=Path, metavar="STORE", help=_STORE)
    merging.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="made; it may exist if it is empty")
    return parser


if __name__ == "__main__":
    main()
