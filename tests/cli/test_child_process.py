"""Processes that a command starts and waits for: signals reach them, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_engines import QUICK, TRAIN, ends_well
from test_engines import start as start_forked

from ripu_lightning.cli.child_process import run_child
from ripu_lightning.cli.sweep_job import read_job

LONG = ["schedule.steps=100000", "schedule.horizon=100000", "schedule.first_round=90000", "trainer.devices=2"]
CHILD = """
import signal, sys, time
def stop(number, frame):
    time.sleep(0.5)  # longer than a Ctrl-C waits for a child by default
    print("saved", flush=True)
    sys.exit({code})
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
    signal.signal(number, stop if {heeds} else signal.SIG_DFL)
print("ready", flush=True)
for _ in range(600):  # one long sleep would not notice a signal that comes just before it
    time.sleep(0.1)
"""
PARENT = """
import os, signal, sys
from ripu_lightning.cli.child_process import run_child
signal.signal(signal.SIGUSR2, lambda number, frame: sys.exit(9))
sys.exit(run_child(sys.argv[1:], os.environ))
"""


@pytest.mark.parametrize(
    ("number", "heeds", "code"),
    [
        (signal.SIGTERM, True, "128 + number"),
        (signal.SIGINT, True, "128 + number"),
        (signal.SIGUSR1, True, "128 + number"),
        (signal.SIGTERM, True, "0"),  # it was just about to end
        (signal.SIGINT, True, "1"),  # what Python may make of a Ctrl-C that comes early
        (signal.SIGUSR1, False, "unused"),
    ],
)
def test_a_signal_is_passed_on_and_the_child_waited_for(number: signal.Signals, heeds: bool, code: str) -> None:
    child = [sys.executable, "-c", CHILD.format(code=code, heeds=heeds)]
    parent = start([sys.executable, "-c", PARENT, *child], Path.cwd())
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    parent.send_signal(number)
    printed, _ = parent.communicate(timeout=20)  # ends when the last process that could write has ended
    assert parent.returncode == 128 + number
    assert printed == ("saved\n" if heeds else "")


@pytest.mark.parametrize(
    ("end", "code"), [("sys.exit(5)", 5), ("os.kill(os.getpid(), 9)", -9), ("sys.exit(143)", None)]
)
def test_a_child_that_ends_by_itself(end: str, code: int | None) -> None:
    child, handler = [sys.executable, "-c", f"import os, sys; {end}"], signal.getsignal(signal.SIGTERM)
    if code is None:  # asked to stop by someone else
        with pytest.raises(SystemExit) as stopped:
            run_child(child, os.environ)
        assert stopped.value.code == 143
    else:
        assert run_child(child, os.environ) == code
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_signal_whose_handler_raises_stops_the_child() -> None:
    """As submitit's does to put a job back into the queue."""
    child = [sys.executable, "-c", CHILD.format(code="143", heeds=True)]
    parent = start([sys.executable, "-c", PARENT, *child], Path.cwd())
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    parent.send_signal(signal.SIGUSR2)
    assert parent.communicate(timeout=20)[0] == "saved\n"
    assert parent.returncode == 9


def test_a_handler_that_raises_while_the_child_is_starting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    really, mark = subprocess.Popen._execute_child, str(tmp_path)

    def interrupted(self: "subprocess.Popen[bytes]", *arguments: object) -> None:
        really(self, *arguments)
        raise SystemExit(9)  # the signal comes as soon as there is a process

    monkeypatch.setattr(subprocess.Popen, "_execute_child", interrupted)
    with pytest.raises(SystemExit):
        run_child([sys.executable, "-c", "import time; time.sleep(60)", mark], os.environ)
    assert not processes_of(mark)


def test_a_job_of_submitit_leaves_its_signal_to_submitit() -> None:
    script = "import os, signal; from ripu_lightning.cli.child_process import follow_parent; follow_parent(); "
    script += "os.kill(os.getpid(), signal.SIGUSR2); print('goes on')"
    assert ends_well(start([sys.executable, "-c", script], Path.cwd(), SUBMITIT_EXECUTOR="slurm")) == "goes on\n"


def start(command: list[str], cwd: Path, **environment: str) -> "subprocess.Popen[str]":
    """In an interpreter of its own, whose command line says what it runs."""
    return start_forked(command, cwd, anew=True, **environment)


def processes_of(word: str | Path) -> list[int]:
    """The ids of all processes with this in their command; zombies have no command line."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if os.fsencode(word) in command.read_bytes():
                found.append(int(command.parent.name))
        except OSError:  # ended meanwhile
            continue
    return found


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.1)


ORPHAN = """
import os, sys, time
from pathlib import Path
from ripu_lightning.cli.child_process import follow_parent
print("ready", flush=True)
while os.getppid() == int(os.environ["RIPU_PARENT"]):
    time.sleep(0.05)
follow_parent()
Path(sys.argv[1]).touch()
"""


def test_a_process_whose_parent_died_while_it_started_ends_even_where_nobody_clears_the_dead_away(
    tmp_path: Path,
) -> None:
    starter = "import os, subprocess, sys; os.environ['RIPU_PARENT'] = str(os.getpid()); "
    starter += f"subprocess.Popen([sys.executable, '-c', {ORPHAN!r}, sys.argv[1]])"
    parent = start([sys.executable, "-c", starter, str(tmp_path / "lives")], tmp_path)  # dead, until it is waited for
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    wait_for(lambda: not processes_of(tmp_path), 20)
    assert not (tmp_path / "lives").exists()
    assert Path(f"/proc/{parent.pid}").exists()
    parent.communicate()


def test_a_sweep_that_is_asked_to_stop_starts_no_further_job(tmp_path: Path) -> None:
    sweep = start([*TRAIN, "-m", *QUICK, *LONG, "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep"], tmp_path)
    wait_for(lambda: len(processes_of(tmp_path)) > 1, 60)
    sweep.terminate()
    printed, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 143
    assert "the sweep stops in the job" in printed
    assert "Traceback" not in printed.split("the sweep stops")[1]
    assert not processes_of(tmp_path)
    stopped = read_job(tmp_path / "sweep" / "seed-1")
    assert stopped is not None
    assert (stopped.state, stopped.code) == ("stopped", 143)
    assert not (tmp_path / "sweep" / "seed-2").exists()


def test_no_process_outlives_a_killed_sweep(tmp_path: Path) -> None:
    sweep = start([*TRAIN, "-m", *QUICK, *LONG, "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep"], tmp_path)
    # The sweep, its job, and the job's other rank, which has just begun to import.
    wait_for(lambda: len(processes_of(tmp_path)) == 3, 120)
    sweep.kill()
    sweep.communicate(timeout=30)
    wait_for(lambda: not processes_of(tmp_path), 5)
    lost = read_job(tmp_path / "sweep" / "seed-1")
    assert lost is not None
    assert lost.state == "stopped"  # whatever its record says
    assert '"running"' in (tmp_path / "sweep" / "seed-1" / "job.json").read_text()
    assert not (tmp_path / "sweep" / "seed-2").exists()
