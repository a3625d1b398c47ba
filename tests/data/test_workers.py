"""Loader workers die with the process that started them, whatever they are doing at that moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import tiny
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.workers import work_through

WORKERS, PATIENCE = 2, 15.0


def busy(folder: Path, state: str) -> bool:
    """What a worker does with one image; tells the test who works."""
    (folder / str(os.getpid())).touch()
    if state == "in the midst of an image":
        time.sleep(600)
    return True


class Told(tiny.Blocks):
    def __init__(self, folder: Path, state: str) -> None:
        super().__init__("told", 100)
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
        data = ActiveDataModule(None, Told(folder, state), None, num_workers=WORKERS)
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


@pytest.mark.parametrize("state", ["waiting for work", "in the midst of an image", "stuck with a large result"])
def test_workers_die_with_their_parent(tmp_path: Path, state: str) -> None:
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, __file__, str(tmp_path), state],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    workers: list[int] = []
    try:
        wait_until = time.monotonic() + 120  # imports take long on a loaded machine
        while len(workers) < WORKERS and time.monotonic() < wait_until:
            time.sleep(0.1)
            workers = [int(file.name) for file in tmp_path.iterdir()]
        assert len(workers) == WORKERS
        time.sleep(1)  # they have prepared all they may by now
        assert all(alive(worker) for worker in workers)
        parent.send_signal(signal.SIGKILL)
        assert wait_for(lambda: not any(alive(worker) for worker in workers))
    finally:
        parent.kill()
        parent.wait()
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
