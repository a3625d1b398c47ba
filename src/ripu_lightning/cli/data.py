"""``ripu-data``: check data sets, or prepare them for training."""

import sys
from pathlib import Path

from omegaconf import DictConfig

from ripu_lightning.cli.app import print_version, run
from ripu_lightning.errors import UserError, suggest
from ripu_lightning.experiment.early_checks import PARTS, require_part

COMMANDS = ("check", "prepare")
USAGE = "ripu-data check|prepare [data=option] [key=value] ... (see --help)"


def main() -> None:
    """Console entry point; the first word becomes the value of ``command``."""
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    print_version("ripu-data")
    if word in COMMANDS:
        sys.argv[1] = f"command={word}"
    elif not word.startswith(("command=", "-")):
        given = f"no command {word!r}, {suggest(word, COMMANDS)}; " if word and "=" not in word else ""
        print(f"error: {given}usage: {USAGE}", file=sys.stderr)
        sys.exit(1)
    run("data_tool", _data, _part)


def _data(config: DictConfig, _: Path) -> None:
    if config.command not in COMMANDS:
        raise UserError(f"command: expected check or prepare, got {config.command!r}")
    from ripu_lightning.experiment.config_keys import errors_name_keys

    names = [config.only] if config.only else [name for name in PARTS if config.data.get(name)]
    with errors_name_keys(config):
        if config.command == "check":  # needs no torch
            from ripu_lightning.cli.data_check import check

            check(config, names)
        else:
            from ripu_lightning.cli.data_prepare import prepare

            prepare(config, names)


def _part(config: DictConfig) -> str:
    if config.only not in {None, *PARTS}:
        raise UserError(f"only: no part {config.only!r}; {suggest(str(config.only), PARTS)}")
    if config.only and config.data.get(config.only) is None:
        raise UserError(f"only: data.{config.only} is null, so there is nothing to read")
    for name in PARTS:
        require_part(config, name)
    return f"data.{config.only}" if config.only else ""


if __name__ == "__main__":
    main()
