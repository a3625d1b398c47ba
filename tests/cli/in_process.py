"""A command inside the process of the tests, for what need not be seen from outside: importing torch takes seconds."""

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra


def call_main(main: Callable[[], None], *arguments: str) -> None:
    """Run a command's ``main`` with these arguments; what it raises passes through."""
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [main.__module__, *arguments])
        main()


def call_inside(command: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As ``call`` of test_train_command, without a process: what is printed, and the exit code."""
    main = import_module(f"ripu_lightning.cli.{command.removeprefix('ripu-')}").main
    out, err, code = io.StringIO(), io.StringIO(), 0
    settings = {"HYDRA_FULL_ERROR": "0", "COLUMNS": "100", "WANDB_MODE": "offline", **environment}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        for name, value in settings.items():
            patch.setenv(name, value)
        try:
            call_main(main, *arguments)
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else 1
    return subprocess.CompletedProcess([command, *arguments], code, out.getvalue(), err.getvalue())
