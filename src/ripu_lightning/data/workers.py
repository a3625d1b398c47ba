"""One job for each image of a data set, in processes and with a progress bar; no worker outlives who started it."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from typing import Generic, TypeVar

import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ripu_lightning.signals import held_back

Result = TypeVar("Result")


def work_through(job: Callable[[int], Result], indices: Sequence[int], workers: int, title: str) -> Iterator[Result]:
    """``job(index)`` for each index, in this order.

    Processes and not threads, as training has them too: a data set need not be safe for threads.

    Args:
        job: picklable; a fault that the user can mend is better returned than raised, because a process that fails
            is waited for.
        indices: what to work on.
        workers: number of processes; 0 works in this one.
        title: of the progress bar.
    """
    workers = min(workers, len(indices))
    results = DataLoader(
        _Jobs(job, indices),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=end_with_parent,
        multiprocessing_context=worker_start(workers),
    )
    yield from tqdm(results, desc=title, unit="image")


def all_cores() -> int:
    """Cores that this process may use."""
    # A job of a cluster owns fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_start(workers: int) -> str | None:
    """How so many workers of a loader begin: None leaves it to the system.

    Before Python 3.10.15 and 3.11.10 a forked process waits for ever where a thread of another language enters Python
    in that moment (python/cpython#112275), as those do that carry the messages between ranks: there they are started by
    a process of their own.
    """
    fixed = {10: 15, 11: 10}.get(sys.version_info.minor, 0)
    forks = multiprocessing.get_start_method() == "fork"
    alone = not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
    if not workers or alone or not forks or sys.version_info.micro >= fixed:
        return None
    multiprocessing.set_forkserver_preload([__name__, "ripu_lightning.data"])
    # What a system sends to all processes of a run would end it, and with it, for their parent, its workers.
    resource_tracker.ensure_running()  # which else it starts itself, and unblocks signals with
    with held_back():
        forkserver.ensure_running()
    return "forkserver"


def end_with_parent(worker: int) -> None:
    """Let a loader's worker process end when its parent says so or is gone, and not before; for ``worker_init_fn``.

    A Ctrl-C reaches all processes of a terminal, and what a run does about signals is no business of its workers.

    Workers look for their parent themselves, but only where they wait for work: one in the midst of a slow image
    would live on until it is done, one whose large result nobody fetches any more for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for worker processes")

    def watch() -> None:
        parent.join()
        os._exit(1)

    for signum in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "sigwaitinfo"):
        # A system may send it to all processes of a run, which still needs its workers for a step: the parent's counts.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey, args=(parent.pid,), name="parent's signal", daemon=True).start()
    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _obey(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # as asked; torch would take any other code for a fault, and raise it while the parent itself exits


class _Jobs(Dataset[Result], Generic[Result]):
    def __init__(self, job: Callable[[int], Result], indices: Sequence[int]) -> None:
        self._job, self._indices = job, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> Result:
        return self._job(self._indices[position])


def _as_it_is(result: Result) -> Result:
    return result
