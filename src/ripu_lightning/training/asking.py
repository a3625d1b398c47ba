"""Asking the annotator, on rank 0: answers are committed, and a round that waits for them outlives the process."""

from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.acquisition import Strategy
from ripu_lightning.annotation import Annotator, Query, Waiting
from ripu_lightning.annotation.queries import from_table, read_table, write_queries
from ripu_lightning.labels import LabelStore


def ask(annotator: Annotator, store: LabelStore, strategy: Strategy, queries: Sequence[Query]) -> str | None:
    """Ask the next round and commit its answers; returns what the run must wait for, None where it need not.

    What waits is kept beside the labels, for :func:`settle`.
    """
    try:
        _commit(annotator, store, strategy, queries)
    except Waiting as waiting:
        write_queries(_path(store), queries)
        return str(waiting)
    return None


def settle(annotator: Annotator, store: LabelStore, strategy: Strategy) -> None:
    """Commit the answers to a round that an earlier process asked; nothing is scored anew.

    Raises:
        UserError: answers are missing or can not be.
    """
    path = _path(store)
    if path.is_file():
        _commit(annotator, store, strategy, from_table(read_table(path)))
        path.unlink()


def check_answers(annotator: Annotator, store: LabelStore) -> None:
    """Read the answers that :func:`settle` will commit.

    Raises:
        UserError: as :func:`settle`.
    """
    path = _path(store)
    if path.is_file():
        for _ in annotator.ask(len(store.rounds) + 1, from_table(read_table(path))):
            pass


def _commit(annotator: Annotator, store: LabelStore, strategy: Strategy, queries: Sequence[Query]) -> None:
    store.commit(
        annotator.ask(len(store.rounds) + 1, queries),
        strategy=strategy.name,
        annotator=annotator.name,
        exclusion=strategy.geometry.exclusion,
    )


def _path(store: LabelStore) -> Path:
    """The next round's queries while they wait; of a round that is committed by now, it is not looked at."""
    return store.folder / f"asked_{len(store.rounds) + 1:03d}.parquet"
