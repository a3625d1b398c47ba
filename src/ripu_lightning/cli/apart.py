"""Commands in processes of their own: the jobs of a sweep, the first step of a run that has two."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig

from ripu_lightning.signals import SIGNALS

PARENT = "RIPU_PARENT"
"""Environment variable: the id of the process of ours that started this one."""
POLL = 0.05
"""Seconds between two looks at a child."""
DEATH_SIGNAL = 1
"""Linux: the option of ``prctl`` that says by which signal a process follows its parent."""


def start_apart(overrides: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None = None) -> int:
    """Run the command that is running, with other overrides, in a process of its own.

    Args:
        overrides: of Hydra.
        environment: of the process.
        log: takes all that it prints; a terminal, or whatever else this process prints to, unless given.

    Returns:
        The exit code.

    Raises:
        SystemExit: see :func:`run_child`.
    """
    settings = HydraConfig.get()
    # Not of hydra.job.name, which may be changed: it names the jobs of a cluster.
    module = f"ripu_lightning.cli.{str(settings.job.config_name).removesuffix('_tool')}"
    return run_child([sys.executable, "-m", module, *_own_configs(settings), *overrides], environment, log)


def run_child(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None = None) -> int:
    """Run a command and wait for it; what asks this process to stop is passed on to it. See :func:`start_apart`.

    Returns:
        The exit code; negative where it was killed by a signal.

    Raises:
        SystemExit: this process or the command was asked to stop; with 128 + the signal's number.
    """
    asked: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if child is not None:
            child.send_signal(number)

    handlers = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        # In a session of its own a Ctrl-C reaches it once, by way of this process, and it can go on to its checkpoint.
        mine = {**environment, PARENT: str(os.getpid())}
        streams: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT} if log else {}
        child = subprocess.Popen(command, env=mine, start_new_session=True, **streams)
        for number in asked:
            child.send_signal(number)
        while child.poll() is None:  # wait() would not notice a signal that comes just before it
            time.sleep(POLL)
        code = child.returncode
    except BaseException:  # such as what submitit's own handler of a signal raises
        if child is not None:
            child.terminate()
            child.wait()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    stopped = 128 - code if code < 0 else code
    if stopped in {128 + number for number in SIGNALS}:
        raise SystemExit(stopped)
    if asked:  # at its very end, or too early to understand: the user wants no more all the same
        raise SystemExit(128 + asked[0])
    return code


def follow_parent() -> None:
    """Die with the process of ours that started this one, and let those that this one starts do the same.

    On Linux alone; elsewhere a process whose parent was killed goes on to its end. In a job of submitit, the signal by
    which SLURM tells every process of it that time is up is left to submitit, which then asks this one to stop.
    """
    if "SUBMITIT_EXECUTOR" in os.environ:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    parent, me = int(os.environ.get(PARENT, 0)), os.getpid()
    os.environ[PARENT] = str(me)
    if not parent or not sys.platform.startswith("linux"):
        return
    if os.getppid() == parent:
        ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent and not lives(parent):
        sys.exit(1)  # it died while this one was starting


def quoted(path: str | Path) -> str:
    """A path as the value of an override, whatever characters it holds."""
    escaped = str(path).replace("'", "\\'")
    return f"'{escaped}'"


def lives(process: int) -> bool:
    """Whether a process of this machine is there, and not dead already: in a container nobody may clear dead ones away.

    >>> lives(os.getpid())
    True
    """
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/stat").read_text() if sys.platform.startswith("linux") else ""
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return process > 0 and status.rpartition(")")[2].split()[:1] not in (["Z"], ["X"])


def _own_configs(settings: HydraConf) -> list[str]:
    """Where the user's own configs are: ``--config-dir``, ``hydra.searchpath``."""
    sources = [source for source in settings.runtime.config_sources if source.provider == "command-line"]
    searched = [item for item in settings.overrides.hydra if item.startswith("hydra.searchpath=")]
    return [*(f"--config-dir={source.path}" for source in sources), *searched]
