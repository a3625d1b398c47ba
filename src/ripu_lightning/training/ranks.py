"""Communication between the processes of a run outside of training steps; a time limit names the missing ones."""

import re
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from pytorch_lightning import Trainer

from ripu_lightning.errors import UserError

Value = TypeVar("Value")

SEARCH = timedelta(seconds=10)
"""How long a process that lost contact looks for the others."""


class MissingRanks(UserError):
    """Other processes of the run ended, or did not answer in time."""


class Ranks:
    """The processes of a run, each with its rank; a single process sends nothing and waits for nobody.

    They use a gloo group of their own, whatever carries the gradients: the messages are in main memory, and only gloo
    reports which rank did not answer. Construct it on all ranks at once.

    Args:
        trainer: has set up its processes.
        patience: how long a rank waits for another one.
    """

    def __init__(self, trainer: Trainer, patience: timedelta = timedelta(minutes=30)) -> None:
        self.rank, self.size, self.patience = trainer.global_rank, trainer.world_size, patience
        several = self.size > 1 and dist.is_available() and dist.is_initialized()
        self._group: dist.ProcessGroup | None = None
        if several:
            self._group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=patience))

    def meet(self, purpose: str) -> None:
        """Wait until all ranks are here.

        Raises:
            MissingRanks: naming those that did not come in time.
        """
        self._meet(purpose, self.patience)

    def gather(self, items: Sequence[Value], purpose: str) -> list[Sequence[Value]]:
        """The items of all ranks, rank by rank, on rank 0; elsewhere nothing. Raises as :meth:`meet`."""
        if self._group is None:
            return [items]
        self.meet(purpose)
        gathered: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(items, gathered, group=self._group)
        return gathered or []

    def share(self, value: Value, purpose: str) -> Value:
        """Rank 0's value, on all ranks. Raises as :meth:`meet`."""
        if self._group is None:
            return value
        self.meet(purpose)
        values = [value]
        dist.broadcast_object_list(values, group=self._group)
        return values[0]

    def require_all(self) -> None:
        """After a failure of communication: find the ranks that do not answer.

        Raises:
            MissingRanks: naming them; nothing happens where all answer.
        """
        self._meet("looking for missing ranks", min(SEARCH, self.patience))

    def _meet(self, purpose: str, patience: timedelta) -> None:
        if self._group is None:
            return
        error = self._wait(patience)
        if error is not None:
            missing = _named(_late(str(error)) or self._gone())
            raise MissingRanks(
                f"{missing} ended or did not answer within {_text(patience)} ({purpose}), see its own messages; all "
                "labels are safe: start the run again (with more patience, rank_patience=MINUTES, it waits longer)"
            ) from error

    def _wait(self, patience: timedelta) -> RuntimeError | None:
        """Wait for all, in a thread: Python handles a Ctrl-C only between two steps of its main thread."""
        failed: list[RuntimeError] = []

        def wait() -> None:
            try:
                dist.monitored_barrier(self._group, timeout=patience, wait_all_ranks=True)
            except RuntimeError as error:
                failed.append(error)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
        return failed[0] if failed else None

    def _gone(self) -> list[int]:
        """The ranks to which the connection is closed."""
        gone = []
        for rank in set(range(self.size)) - {self.rank}:
            try:
                dist.irecv(torch.zeros(1), src=rank, group=self._group)
            except RuntimeError:
                gone.append(rank)
        return gone


def _late(message: str) -> list[int]:
    """The ranks that gloo names on rank 0; on the others its message only says that rank 0 did not come."""
    found = re.search(r"[Rr]anks? ([\d, ]+) failed to pass", message)
    return [int(rank) for rank in re.findall(r"\d+", found[1])] if found else []


def _named(ranks: Sequence[int]) -> str:
    if not ranks:
        return "rank 0, or one that it waits for,"
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _text(patience: timedelta) -> str:
    seconds = patience.total_seconds()
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"
