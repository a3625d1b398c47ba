"""What the processes of a run say to each other between steps, with a time limit that names who is missing."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch.distributed as dist
from pytorch_lightning import Trainer

from ripu_lightning.errors import UserError

Value = TypeVar("Value")

SEARCH = timedelta(seconds=10)
"""How long a process that lost the others looks for those that are left."""


class Ranks:
    """The processes of a run, each with its rank; a single process says nothing and waits for nobody.

    They talk over a gloo group of their own, whatever carries the gradients: what they say lies in main memory, and
    only gloo tells which rank did not answer. Make it on all ranks at once.

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
            UserError: naming the ranks that did not come in time.
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
        """After a failure of communication: tell who is gone.

        Raises:
            UserError: naming the ranks that do not answer any more; where all do, nothing is said.
        """
        self._meet("going on", min(SEARCH, self.patience))

    def _meet(self, purpose: str, patience: timedelta) -> None:
        if self._group is None:
            return
        try:
            dist.monitored_barrier(self._group, timeout=patience, wait_all_ranks=True)
        except RuntimeError as error:
            missing = _missing(str(error)) or "rank 0, or one that it waits for,"
            raise UserError(
                f"{missing} ended or did not answer within {_text(patience)} ({purpose}), see its own messages; bought "
                "labels are safe: start the same command again (rank_patience=MINUTES makes the ranks wait longer)"
            ) from error


def _missing(message: str) -> str | None:
    """``ranks 1, 2`` out of what gloo says on rank 0; the other ranks only learn that they wait for rank 0."""
    found = re.search(r"[Rr]anks? ([\d, ]+) failed to pass", message)
    if found is None:
        return None
    ranks = found[1].strip().strip(",")
    return f"ranks {ranks}" if "," in ranks else f"rank {ranks}"


def _text(patience: timedelta) -> str:
    seconds = patience.total_seconds()
    return f"{seconds / 60:g} minutes" if seconds >= 120 else f"{seconds:g} seconds"
