"""Obtaining the answers of a round on rank 0; queries that wait for answers outlive the process."""

from collections.abc import Sequence
from pathlib import Path

from ripu_lightning.acquisition import Strategy
from ripu_lightning.annotation import Annotator, AnswersPending, Query
from ripu_lightning.annotation.queries import read_queries, write_queries
from ripu_lightning.annotation.reuse import annotate_or_reuse
from ripu_lightning.labels import LabelStore


def annotate_round(annotator: Annotator, store: LabelStore, strategy: Strategy, queries: Sequence[Query]) -> str | None:
    """Have the next round answered and commit it.

    Returns:
        None; or which answers the run must wait for. Its queries are then kept in the store's folder, for
        :func:`commit_pending`.
    """
    try:
        _commit(annotator, store, strategy, queries)
    except AnswersPending as pending:
        write_queries(_path(store), queries, store.images)
        return str(pending)
    return None


def commit_pending(annotator: Annotator, store: LabelStore, strategy: Strategy) -> None:
    """Commit the answers to the queries of an earlier process; nothing is scored again.

    Raises:
        UserError: answers are missing or invalid.
    """
    path = _path(store)
    if path.is_file():
        _commit(annotator, store, strategy, _read(path, store))
        path.unlink()


def check_pending(annotator: Annotator, store: LabelStore) -> None:
    """Read the answers that :func:`commit_pending` will commit.

    Raises:
        UserError: as :func:`commit_pending`.
    """
    path = _path(store)
    if path.is_file():
        for _ in annotate_or_reuse(annotator, store, _read(path, store)):
            pass


def _commit(annotator: Annotator, store: LabelStore, strategy: Strategy, queries: Sequence[Query]) -> None:
    store.commit(
        annotate_or_reuse(annotator, store, queries),
        strategy=strategy.name,
        annotator=annotator.name,
        exclusion=strategy.region_type.exclusion,
    )


def _read(path: Path, store: LabelStore) -> list[Query]:
    return read_queries(path, store.images)


def _path(store: LabelStore) -> Path:
    """The queries of the next round while they wait.

    The name says which round they follow: after a roll-back they would belong to another history.
    """
    after = f"_after_{store.rounds[-1].id}" if store.rounds else ""
    return store.folder / f"pending_{len(store.rounds) + 1:03d}{after}.parquet"
