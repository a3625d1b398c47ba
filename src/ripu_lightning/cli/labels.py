"""``ripu-labels``: list, verify, roll back, reject, skip, export and merge label stores."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ripu_lightning.cli.labels_commands import export, merge, reject, rollback, show, skip, verify
from ripu_lightning.errors import DISK_FULL, UserError
from ripu_lightning.version import __version__

_STORE = "a label store, or a run's folder with one in labels/"
_NEW = "made; it may exist if it is empty"
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
        code = _fail("interrupted; the label stores are unchanged") + 129
    except OSError as error:
        if not error.filename:
            raise
        fix = "free some space" if error.errno in DISK_FULL else "check the path and its permissions"
        code = _fail(f"{error.filename}: {error.strerror}; {fix}")
    if code:
        sys.exit(code)


def _fail(line: str) -> int:
    print(f"error: {line}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ripu-labels", description="Label stores: what was queried and what was answered.", epilog=_NOTE
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[..., int], about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, epilog=_NOTE)
        command.set_defaults(run=run)
        if name != "merge":
            command.add_argument("store", type=Path, metavar="STORE", help=_STORE)
        return command

    add("list", show, "the rounds, active and inactive")
    add("verify", verify, "read every file completely and compare its SHA-256")
    add("rollback", rollback, "make other rounds active, back or forth").add_argument(
        "to", metavar="TO", help="number of the last active round (0 for none), or first 6 digits of any round's id"
    )
    _add_rejecting(
        add("reject", reject, "answers that are wrong: they are never used again, and the run queries them again")
    )
    skipping = add("skip", skip, "images that are never queried again")
    skipping.add_argument("images", nargs="+", metavar="ID", help="of an image")
    _add_exporting(add("export", export, "masks for other programs"))
    merging = add("merge", merge, "the active rounds of several stores as one store")
    merging.add_argument("stores", nargs="+", type=Path, metavar="STORE", help=_STORE)
    merging.add_argument("--into", type=Path, required=True, metavar="FOLDER", help=_NEW)
    return parser


def _add_rejecting(command: argparse.ArgumentParser) -> None:
    number = "number of an active round, or first 6 digits of any round's id"
    command.add_argument("--round", dest="to", required=True, metavar="ROUND", help=number)
    command.add_argument("--image", dest="images", nargs="+", default=[], metavar="ID", help="only these images")
    order = "only these queries of the image, from 1, in the order of the round's file"
    command.add_argument("--query", dest="queries", nargs="+", type=int, default=[], metavar="K", help=order)


def _add_exporting(command: argparse.ArgumentParser) -> None:
    command.add_argument("folder", type=Path, metavar="FOLDER", help=_NEW)
    kinds = "png: ID.png for each image; coco: annotations.json (needs the extra coco)"
    command.add_argument("--format", dest="kind", choices=("png", "coco"), required=True, help=kinds)
    command.add_argument(
        "--values",
        choices=("id", "index"),
        help="of png: file ids of the class map, which can be read as labels and answers (the default); or class "
        "indices, 255 elsewhere",
    )
    command.add_argument("--through", type=int, metavar="N", help="count the rounds 1 to N only")


if __name__ == "__main__":
    main()
