"""Worker processes: one job for each image with a progress bar, and workers that end with their parent."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from ripu_lightning.signals import SIGNALS

Result = TypeVar("Result")
FEW = 32
"""Jobs that are done before torch, which starts workers, would be loaded."""


def work_through(job: Callable[[int], Result], indices: Sequence[int], workers: int, title: str) -> Iterator[Result]:
    """``job(index)`` for each index, in this order.

    Workers are processes, as in training: a data set need not be safe for threads.

    Args:
        job: picklable; it should return a user's fault instead of raising it, because torch waits for a failed process.
        indices: what to work on.
        workers: number of processes; 0, or few images, need none but this one.
        title: of the progress bar.
    """
    if len(indices) <= FEW or not workers:
        yield from tqdm(map(job, indices), total=len(indices), desc=title, unit="image")
        return
    from torch.utils.data import DataLoader

    jobs: Any = _Jobs(job, indices)  # torch takes anything with a length and items
    results: DataLoader[Result] = DataLoader(
        jobs,
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=end_with_parent,
        multiprocessing_context=worker_start(workers),
    )
    yield from tqdm(results, desc=title, unit="image")


def all_cores() -> int:
    """Cores that this process may use; a job of a cluster has fewer than its machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_start(workers: int) -> str | None:
    """Start method of a loader's workers; None is the default of the system.

    Before Python 3.10.15 and 3.11.10, a forked process waits forever if a thread of another language enters Python
    at that moment (python/cpython#112275). The threads that carry messages between ranks do: there, a fork server
    starts the workers.
    """
    import torch.distributed as dist

    fixed = {10: 15, 11: 10}.get(sys.version_info.minor, 0)
    ranks = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if not (workers and ranks and sys.version_info.micro < fixed and multiprocessing.get_start_method() == "fork"):
        return None
    multiprocessing.set_forkserver_preload([__name__, "ripu_lightning.data.datamodule"])
    resource_tracker.ensure_running()  # starting it unblocks signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a signal to all processes must not end the fork server
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return "forkserver"


def end_with_parent(worker: int) -> None:
    """Let a loader's worker end when its parent asks for it or is gone, and not before; for ``worker_init_fn``.

    A terminal or a cluster may signal all processes of a run, which needs its workers to finish the step. Workers look
    for their parent only while they wait for work, so a thread does it while they read a slow image.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for worker processes")
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS and Windows: there, SIGTERM ends the worker whoever sends it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(parent.pid,), name="parent's signal", daemon=True).start()
    threading.Thread(target=_watch, args=(parent,), name="parent watch", daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # torch would report any other code as a failed worker


def _watch(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


class _Jobs(Generic[Result]):
    def __init__(self, job: Callable[[int], Result], indices: Sequence[int]) -> None:
        self._job, self._indices = job, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Result:
        return self._job(self._indices[position])


def _unchanged(result: Result) -> Result:
    return result
