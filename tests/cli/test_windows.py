"""What Windows lacks and refuses, imitated: no fcntl, no SIGUSR1, open files that nobody may replace."""

import os
import sys
from pathlib import Path

import pytest
from test_train_command import SMALL, call

# As on Windows: modules and signals that are not there, files that are open cannot be replaced, no locks by fcntl.
PRELUDE = """
import builtins, os, signal, sys
for name in ("fcntl", "pwd", "grp", "resource", "termios"):
    sys.modules[name] = None
for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "sigwaitinfo", "pthread_sigmask", "SIGKILL", "SIG_BLOCK"):
    if hasattr(signal, name):
        delattr(signal, name)
del os.sched_getaffinity
os.environ.pop("RIPU_PARENT", None)  # a process that follows its parent does so by Linux alone
opened, real_open, real_replace = {}, builtins.open, os.replace
def replace(source, target):
    for path in (source, target):
        for link in os.listdir("/proc/self/fd"):
            try:
                held = os.readlink(f"/proc/self/fd/{link}")
            except OSError:
                continue
            if held == os.path.abspath(path):
                raise PermissionError(13, "The process cannot access the file because it is being used", str(path))
    return real_replace(source, target)
os.replace = os.rename = replace
sys.argv = sys.argv[1:]
"""
RUN = PRELUDE + "from ripu_lightning.cli.NAME import main\nmain()\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at open files by /proc")
def test_a_run_goes_through_twice(tmp_path: Path) -> None:
    command = ("python", "-c", RUN.replace("NAME", "train"), "ripu-train", *SMALL, "output=run", "pictures=1")
    done = call(*command, cwd=tmp_path, anew=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "result.json").is_file()
    done = call(*command, cwd=tmp_path, anew=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "complete: nothing is left to do" in done.stdout
    for path in (tmp_path / "run").rglob("*"):  # names that Windows takes
        assert not set(str(path.relative_to(tmp_path)).replace(os.sep, "")) & set('<>:"|?*\\'), path
