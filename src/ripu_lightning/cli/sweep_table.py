"""A sweep while it runs: a live table on a terminal, elsewhere a line for each job that ends.

All of it is read from the jobs' folders, whatever process runs them.
"""

import csv
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache
from io import StringIO
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ripu_lightning.cli.sweep_job import Job
from ripu_lightning.errors import UserError
from ripu_lightning.untrusted import read_bounded

EVERY = 1.0
"""Seconds between two looks at the folders."""
STYLES = {
    "running": "bold",
    "failed": "red",
    "stopped": "yellow",
    "waiting": "yellow",
    "queued": "dim",
    "complete": "green",
}
"""Style by state; if not all jobs fit, the first states are shown first."""
AROUND = 9
"""Lines of a terminal that are not rows of jobs."""
Jobs = Mapping[str, Job | None]


class Watch:
    """Shows a sweep from :meth:`start` to :meth:`stop`, in a thread of its own.

    Args:
        folder: of the sweep.
        jobs: reads the records of all jobs, by the names of their folders.
        count: of the jobs; None if it is not known.
        steps: of a job that has not begun.
        console: standard output by default.
    """

    def __init__(
        self,
        folder: Path,
        jobs: Callable[[], Jobs],
        count: int | None,
        steps: int | None,
        console: Console | None = None,
    ) -> None:
        self.folder, self.jobs, self.count, self.steps = folder, jobs, count, steps
        self.console = console or Console()
        self._started, self._ended = time.time(), threading.Event()
        self._begun_with = self._done(jobs())
        self._reported: set[str] = set()
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin, and say how many jobs were complete before; their configs are compared at their turn."""
        jobs = self.jobs()
        complete = sum(job is not None and job.state == "complete" for job in jobs.values())
        number = "jobs" if self.count is None else f"{self.count} job{'s' if self.count > 1 else ''}"
        already = f", {complete} complete before" if complete else ""
        self.console.print(f"sweep of {number}{already}: {self.folder}", highlight=False, soft_wrap=True)
        if self._live:
            self._live.start()
        self._thread.start()

    def stop(self) -> None:
        """Show how it ended, restore the terminal, and say why jobs failed."""
        self._ended.set()
        self._thread.join()
        if self._live:
            self._look()
            self._live.stop()
            for name, job in self.jobs().items():
                if job and job.state == "failed":
                    self._report(name, job)
        else:
            self._look()

    def _run(self) -> None:
        while not self._ended.wait(EVERY):
            self._look()

    def _look(self) -> None:
        jobs = self.jobs()
        if self._live:
            self._live.update(self.table(jobs), refresh=True)
            return
        for name, job in jobs.items():
            if job and job.state != "running" and job.started >= self._started and name not in self._reported:
                self._reported.add(name)
                self._report(name, job)

    def _report(self, name: str, job: Job) -> None:
        found = _last(self.folder / name)
        reached = f", mIoU {found['miou']} %, {found['share']} % labelled" if found and job.error is None else ""
        line = f"{name}: {job.state}, {_time(job)}{reached}" + (f": {job.error}" if job.error else "")
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def table(self, jobs: Jobs) -> Group:
        """A row a job, and below them a bar over all."""
        table = Table("job", "state", "round", "% labelled", "% mIoU", "time")
        shown = _shown(jobs, self.console.height - AROUND)
        for name in shown:
            job, found = jobs[name], _last(self.folder / name) or {}
            state = job.state if job else "queued"
            columns = [found.get(column, "") for column in ("round", "share", "miou")]
            table.add_row(escape(name), f"[{STYLES[state]}]{state}", *columns, _time(job) if job else "")
        return Group(table, *self._below(jobs, len(jobs) - len(shown)))

    def _below(self, jobs: Jobs, hidden: int) -> list[Table | Text]:
        states = Counter(job.state if job else "queued" for job in jobs.values())
        states["queued"] += max(0, (self.count or 0) - len(jobs))
        counts = ", ".join(f"{states[state]} {state}" for state in STYLES if states[state])
        done, total = self._done(jobs), max(self.count or 0, len(jobs))
        bar = Table.grid(padding=(0, 1))
        spent = time.time() - self._started
        left = spent * (total - done) / (done - self._begun_with) if done > self._begun_with else math.nan
        times = f"{_clock(spent)} so far" + ("" if math.isnan(left) else f", about {_clock(left)} left")
        bar.add_row(ProgressBar(max(total, 1), done, width=40), f"{done / max(total, 1):.0%}", times)
        return [Text(counts + (f"; {hidden} rows do not fit" if hidden else "")), bar]

    def _done(self, jobs: Jobs) -> float:
        """How many jobs are complete; a job that runs counts by its steps."""
        return sum(self._share(name, job) for name, job in jobs.items() if job)

    def _share(self, name: str, job: Job) -> float:
        if job.state == "complete" or (job.state in {"failed", "waiting"} and job.started >= self._started):
            return 1.0
        found, steps = _last(self.folder / name), job.steps or self.steps
        return min(1.0, int(found["step"]) / steps) if found and steps else 0.0


def _shown(jobs: Jobs, rows: int) -> list[str]:
    """All jobs in their order, or as many as fit: running ones are chosen first, then failed ones."""
    order = list(STYLES)
    urgent = sorted(jobs, key=lambda name: order.index(job.state if (job := jobs[name]) else "queued"))
    chosen = set(urgent[: max(rows, 3)])
    return [name for name in jobs if name in chosen]


def _last(folder: Path) -> dict[str, str] | None:
    """Round, step, share and mIoU (in %) of the last stage that a run has finished."""
    path = folder / "rounds.csv"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=4096)
def _read(path: Path, changed: int) -> dict[str, str] | None:
    try:
        row = list(csv.DictReader(StringIO(read_bounded(path).decode())))[-1]
        counts = {name: str(int(row[name])) for name in ("round", "step")}
        return {**counts, "share": f"{float(row['share']):.2%}"[:-1], "miou": f"{float(row['miou']):.1%}"[:-1]}
    except (UserError, ValueError, KeyError, IndexError, TypeError):
        return None


def _time(job: Job) -> str:
    return _clock((job.ended or time.time()) - job.started)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
