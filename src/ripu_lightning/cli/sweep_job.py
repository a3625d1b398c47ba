"""One job of a sweep: a process of its own, whose folder holds its record and its output."""

import json
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from filelock import Timeout
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ripu_lightning.cli.child_process import lives, start_child
from ripu_lightning.cli.overrides import quoted
from ripu_lightning.errors import UserError
from ripu_lightning.experiment.recorded_config import recorded
from ripu_lightning.files import explained, file_lock, replacing
from ripu_lightning.report.result import NAME as RESULT
from ripu_lightning.report.result import digest, read_result
from ripu_lightning.signals import SIGNALS
from ripu_lightning.untrusted import is_line, parse_json, read_bounded

NAME, LOG = "job.json", "log.txt"
SWEEP = "RIPU_SWEEP"
"""Environment variable: the name of the sweep's folder, for the process of a job."""
STATES = {0: "complete", 3: "waiting", **{128 + number: "stopped" for number in SIGNALS}}
"""State by exit code; any other code is a failure."""
MOST = 2**53
"""Above all times, codes and steps, and below infinity."""
TAIL = 2**16
"""Bytes at the end of a log that are searched for the reason of a failure."""
NOTE = "all labels are safe"


@dataclass(frozen=True)
class Job:
    """The content of ``job.json``.

    Attributes:
        overrides: the job's part of the command line.
        state: running, complete, waiting (for answers), failed or stopped (by a signal).
        started: Unix time at which the last attempt began.
        ended: Unix time at which it ended; null while it runs.
        code: its exit code.
        error: the line that says why it failed.
        steps: of the run; null for a command without steps.
        process: the id of the process that waits for the job.
        host: the machine of that process.
    """

    overrides: list[str]
    state: str
    started: float
    ended: float | None = None
    code: int | None = None
    error: str | None = None
    steps: int | None = None
    process: int = 0
    host: str = ""

    def write(self, folder: Path) -> None:
        """Write ``job.json``, atomically. Raises UserError if it cannot be written."""
        with replacing(folder / NAME, NOTE) as file:
            file.write(f"{json.dumps(asdict(self), indent=2)}\n".encode())


def read_job(folder: Path) -> Job | None:
    """The record in a job's folder; None for no record or a damaged one, as if the job had never run.

    A job counts as stopped if its record says that it runs, but its process on this machine is gone.
    """
    try:
        content = parse_json(read_bounded(folder / NAME))
        job = Job(**{field.name: content[field.name] for field in fields(Job)})
    except (UserError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not _is_valid(job):
        return None
    lost = job.state == "running" and job.host == socket.gethostname() and not lives(job.process)
    return replace(job, state="stopped") if lost else job


def run_job(config: DictConfig, environment: Mapping[str, str]) -> float | None:
    """Run the job of a sweep whose config this is, unless it is complete.

    In a process of its own, so that ranks, loggers and memory of one job do not leak into the next: Lightning's
    launcher would otherwise start the sweep again on every other rank.

    Returns:
        Its mIoU, for sweepers that search for the best one; None if it failed, waits or has none.

    Raises:
        SystemExit: a signal stopped it, and so the sweep.
        UserError: another sweep runs it.
    """
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    if is_complete(folder, config):
        return read_result(folder / RESULT).miou
    with explained(folder, "nothing was changed"):
        folder.mkdir(parents=True, exist_ok=True)
    steps, overrides = OmegaConf.select(config, "schedule.steps"), list(settings.overrides.task)
    steps = steps if isinstance(steps, int) else None
    job = Job(overrides, "running", time.time(), steps=steps, process=os.getpid(), host=socket.gethostname())
    if int(os.environ.get("SLURM_PROCID", 0)):  # of several tasks of one job the first keeps the record
        _start(job, folder, environment)
        return None
    with _alone(folder):
        return _run(job, folder, environment)


def is_complete(folder: Path, config: DictConfig) -> bool:
    """Whether the job is complete, and with this same config."""
    job = read_job(folder)
    if job is None or job.state != "complete":
        return False
    try:
        return read_result(folder / RESULT).config == digest(recorded(config))
    except UserError:
        return False


def _run(job: Job, folder: Path, environment: Mapping[str, str]) -> float | None:
    job.write(folder)
    code = 1
    try:
        code = _start(job, folder, environment)
    except SystemExit as stopped:
        code = int(str(stopped.code))
        print(f"\nthe sweep stops in the job in {folder}: the same command resumes it", file=sys.stderr)
        raise
    finally:
        _tidy(folder / LOG)
        state = STATES.get(code, "failed")
        error = _reason(folder / LOG, code) if state == "failed" else None
        replace(job, state=state, ended=time.time(), code=code, error=error).write(folder)
    found = folder / RESULT
    return read_result(found).miou if code == 0 and found.is_file() else None


def _start(job: Job, folder: Path, environment: Mapping[str, str]) -> int:
    # A config of conf/sweep says that the command is a sweep, which the job is not.
    overrides = [*job.overrides, f"hydra.run.dir={quoted(folder)}", "hydra.mode=RUN"]
    # Unbuffered, so that output and warnings are in order.
    mine = {**environment, SWEEP: folder.parent.name, "PYTHONUNBUFFERED": "1"}
    with explained(folder / LOG, NOTE):
        log = (folder / LOG).open("ab", buffering=0)
    with log:
        start = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.started))
        log.write(f"--- {start}: {' '.join(job.overrides)}\n".encode())
        return start_child(overrides, mine, log)


def _tidy(log: Path) -> None:
    """Keep of each line what a terminal would show at the end: no colours, and a progress bar only once."""
    text = re.sub(rb"\x1b\[[0-?]*[ -/]*[@-~]", b"", log.read_bytes())
    with replacing(log, NOTE) as file:
        file.write(re.sub(rb"(?m)^[^\n]*\r(?!\n)", b"", text))


def _reason(log: Path, code: int) -> str:
    """The error line of the last attempt, or the last line of its output."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.rpartition("\n--- ")[2].splitlines()[1:] if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    found = (errors or lines or [""])[-1]
    line = "".join(character if is_line(character) else "?" for character in found)[:500]
    return line or f"exit code {code}"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = file_lock(folder / "job.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(f"{folder}: another sweep is at this job; wait for it, then start again") from None
    except (OSError, NotImplementedError):
        pass  # a disk without locks; the label store has a lock of its own
    try:
        yield
    finally:
        lock.release()


def _is_valid(job: Job) -> bool:
    numbers = (job.started, job.ended, job.code, job.steps, job.process)
    return (
        isinstance(job.overrides, list)
        and job.state in {*STATES.values(), "running", "failed"}
        and all(isinstance(text, str) and is_line(text) for text in (*job.overrides, job.error or "", job.host))
        and all(number is None or (type(number) in (int, float) and abs(number) < MOST) for number in numbers)
        and type(job.started) in (int, float)
        and type(job.process) is int
    )
