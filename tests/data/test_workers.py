"""Loader workers die with the process that started them, whatever they are doing at that moment."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import forked
import tiny
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.workers import work_through, worker_start

WORKERS, PATIENCE = 2, 15.0
SIGNALLED = ", all processes signalled"


def busy(folder: Path, state: str) -> bool:
    """What a worker does with one image; tells the test who works."""
    (folder / str(os.getpid())).touch()
    if state == "in the middle of an image":
        time.sleep(600)
    return True


class Reporting(tiny.Blocks):
    def __init__(self, folder: Path, state: str) -> None:
        super().__init__("reporting", 100)
        self.folder, self.state = folder, state

    def image(self, index: int) -> np.ndarray:
        busy(self.folder, self.state)
        return super().image(index)


def large(index: int) -> np.ndarray:
    """A result that fills the pipe to whoever waits for it."""
    busy(Path(sys.argv[1]), sys.argv[2])
    return np.zeros(3_000_000, dtype=np.uint8)


def main(folder: Path, state: str) -> None:
    if state == "stuck with a large result":
        results = work_through(large, range(100), WORKERS, "x")
    else:
        if SIGNALLED in state:
            signal.signal(signal.SIGTERM, lambda *_: None)  # a run finishes its step
            state = state.removesuffix(SIGNALLED)
        data = ActiveDataModule(None, Reporting(folder, state), None, num_workers=WORKERS)
        results = iter(data.pool_dataloader())
    next(results)
    time.sleep(600)


def alive(process: int) -> bool:
    """Whether it runs; one that has ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(condition) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


STATES = ["waiting for work", "in the middle of an image", "stuck with a large result", f"waiting for work{SIGNALLED}"]


@pytest.mark.parametrize("state", STATES)
def test_workers_die_with_their_parent(tmp_path: Path, state: str) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    parent = forked.Popen(
        [sys.executable, __file__, str(tmp_path), state],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    working: list[int] = []
    try:
        wait_until = time.monotonic() + 120  # imports take long on a loaded machine
        while len(working) < WORKERS and time.monotonic() < wait_until:
            time.sleep(0.1)
            working = [int(file.name) for file in tmp_path.iterdir()]
        assert len(working) == WORKERS
        time.sleep(1)  # they have prepared all they may by now
        if SIGNALLED in state:  # a system asks all processes to end, but the run finishes its step
            os.killpg(parent.pid, signal.SIGTERM)
            time.sleep(0.5)
        assert all(alive(worker) for worker in working)
        parent.send_signal(signal.SIGKILL)
        assert wait_for(lambda: not any(alive(worker) for worker in working))
    finally:
        parent.kill()
        parent.wait()
        for worker in filter(alive, working):
            os.kill(worker, signal.SIGKILL)


def test_a_worker_that_its_parent_ends_has_not_failed(tmp_path: Path) -> None:
    data = ActiveDataModule(None, Reporting(tmp_path, "waiting for work"), None, num_workers=1)
    results = iter(data.pool_dataloader())
    next(results)
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(PATIENCE)
    assert worker.exitcode == 0


@pytest.mark.parametrize(
    ("version", "safe"),
    [((3, 10, 14), False), ((3, 10, 15), True), ((3, 11, 9), False), ((3, 11, 10), True), ((3, 12, 0), True)],
)
def test_workers_are_forked_among_ranks_where_python_can(
    version: tuple[int, int, int], safe: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, minor, micro = version
    found = SimpleNamespace(version_info=SimpleNamespace(major=major, minor=minor, micro=micro))
    monkeypatch.setattr("ripu_lightning.data.workers.sys", found)
    assert worker_start(1) is None
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    for world, started in ((1, None), (2, None if safe else "forkserver")):
        monkeypatch.setattr("torch.distributed.get_world_size", lambda world=world: world)
        assert worker_start(1) == started
        assert worker_start(0) is None


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
