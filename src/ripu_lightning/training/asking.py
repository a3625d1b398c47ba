"""Asking the annotator, on rank 0: answers are committed, and a round that waits for them outlives the process."""

from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.acquisition import Strategy
from ripu_lightning.annotation import Annotator, Query, Waiting
from ripu_lightning.annotation.queries import read_queries, write_queries
from ripu_lightning.annotation.recall import ask_or_recall
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
        _commit(annotator, store, strategy, _read(path, store))
        path.unlink()


def check_answers(annotator: Annotator, store: LabelStore) -> None:
    """Read the answers that :func:`settle` will commit.

    Raises:
        UserError: as :func:`settle`.
    """
    path = _path(store)
    if path.is_file():
        for _ in ask_or_recall(annotator, store, _read(path, store)):
            pass


def _commit(annotator: Annotator, store: LabelStore, strategy: Strategy, queries: Sequence[Query]) -> None:
    store.commit(
        ask_or_recall(annotator, store, queries),
        strategy=strategy.name,
        annotator=annotator.name,
        exclusion=strategy.geometry.exclusion,
    )


def _read(path: Path, store: LabelStore) -> list[Query]:
    return read_queries(path, store.images or {})


def _path(store: LabelStore) -> Path:
    """The next round's queries while they wait; of a round that is committed by now, it is not looked at.

    The name tells which round they follow: after a roll-back they would be the questions of another history.
    """
    after = f"_after_{store.rounds[-1].id}" if store.rounds else ""
    return store.folder / f"asked_{len(store.rounds) + 1:03d}{after}.parquet"
