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
"""Linux: the option of ``prctl`` for the signal that a process gets when its parent dies."""


def start_child(overrides: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None = None) -> int:
    """Run the current command with other overrides of Hydra; see :func:`run_child`."""
    settings = HydraConfig.get()
    # Not hydra.job.name, which users may change: it names the jobs of a cluster.
    module = f"ripu_lightning.cli.{str(settings.job.config_name).removesuffix('_tool')}"
    return run_child([sys.executable, "-m", module, *_own_configs(settings), *overrides], environment, log)


class _Child(subprocess.Popen[bytes]):
    """A process that ``started`` knows before it runs: the handler of a signal may raise while it is starting."""

    def __init__(self, started: "list[_Child]", *arguments: Any, **options: Any) -> None:
        self.pid = 0
        started.append(self)
        super().__init__(*arguments, **options)


def run_child(command: Sequence[str], environment: Mapping[str, str], log: IO[bytes] | None = None) -> int:
    """Run a command in a process of its own, pass signals on to it, and wait for it.

    Args:
        command: the program and its arguments.
        environment: of the process.
        log: takes all its output; by default it prints where this process does.

    Returns:
        The exit code; negative if a signal killed it.

    Raises:
        SystemExit: a signal stopped this process or the command; with 128 + the signal's number.
    """
    received: list[int] = []
    started: list[_Child] = []
    child: _Child | None = None

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if child is not None:
            _send(child, number)

    handlers = {number: signal.signal(number, pass_on) for number in SIGNALS}
    try:
        # In a session of its own a Ctrl-C reaches it once, through this process, and it can write its checkpoint.
        mine = {**environment, PARENT: str(os.getpid())}
        streams: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT} if log else {}
        child = _Child(started, command, env=mine, start_new_session=True, **streams)
        for number in received:
            _send(child, number)
        while child.poll() is None:  # wait() would not notice a signal that comes just before it
            time.sleep(POLL)
    except BaseException:  # such as what submitit's own handler of a signal raises
        for each in started:
            if each.pid:
                each.terminate()
                each.wait()
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    code = child.returncode
    stopped = 128 - code if code < 0 else code
    if stopped in {128 + number for number in SIGNALS}:
        raise SystemExit(stopped)
    if received:  # at its very end, or before it had its handlers
        raise SystemExit(128 + received[0])
    return code


def _send(child: "subprocess.Popen[bytes]", number: int) -> None:
    if os.name == "posix":  # on Windows the console sends a Ctrl-C to both
        child.send_signal(number)


def follow_parent() -> None:
    """Die with the process of ours that started this one (Linux only), and let those that this one starts do the same.

    In a job of submitit, the signal by which SLURM announces the time limit to every process is left to submitit,
    which then stops this one.
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


def lives(process: int) -> bool:
    """Whether a process of this machine exists and is no zombie; on Windows every process counts as alive.

    >>> lives(os.getpid())
    True
    """
    if sys.platform == "win32":
        return True  # os.kill would end it
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
