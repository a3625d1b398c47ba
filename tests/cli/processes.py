"""``ripu-train`` as a real process that is signalled, killed or given a fault, and what is left when it has ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from test_train_command import SCRIPTS, SMALL

import forked

SHORT = ["schedule.steps=24", "schedule.first_round=8", "schedule.interval=6", "schedule.horizon=30", "pictures=0"]


def start(
    folder: Path, *arguments: str, command: Sequence[str] = (), small: Sequence[str] = SMALL, anew: bool = False
) -> "subprocess.Popen[str]":
    """A command, ``ripu-train`` unless given, in a folder and a session of its own.

    It is forked; with ``anew``, its interpreter and those of its ranks have loaded nothing.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    environment.pop("LOCAL_RANK", None)
    return (subprocess.Popen if anew else forked.Popen)(
        [*(command or (str(SCRIPTS / "ripu-train"),)), *small, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def end(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    """Wait for the process and all that it started; what it said."""
    stdout, stderr = process.communicate(timeout=120)
    for _ in range(300):
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(f"a process lives on: {stderr[-2000:]}")


def planted(
    folder: Path, fault: str, *arguments: str, small: Sequence[str] = SMALL
) -> "subprocess.CompletedProcess[str]":
    """A run with a fault of ``planted.py``, until its end."""
    script = Path(__file__).with_name("planted.py")
    return end(start(folder, *arguments, command=(sys.executable, str(script), fault), small=small))


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    """Until the file is there, or the process is through."""
    for _ in range(2400):  # two minutes: the machine may be busy
        if path.is_file() or process.poll() is not None:
            return
        time.sleep(0.05)
