"""Obtaining the answers of a round on rank 0; queries that wait for answers outlive the process."""

from collections.abc import Sequence

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
        write_queries(store.folder / store.manifest.pending_file(), queries, store.images)
        return str(pending)
    return None


def commit_pending(annotator: Annotator, store: LabelStore, strategy: Strategy) -> None:
    """Commit the answers to the queries of an earlier process; nothing is scored again.

    Raises:
        UserError: answers are missing or invalid.
    """
    path = store.folder / store.manifest.pending_file()
    if path.is_file():
        _commit(annotator, store, strategy, read_queries(path, store.images))
        path.unlink()


def check_pending(annotator: Annotator, store: LabelStore) -> None:
    """Read the answers that :func:`commit_pending` will commit.

    Raises:
        UserError: as :func:`commit_pending`.
    """
    path = store.folder / store.manifest.pending_file()
    if path.is_file():
        for _ in annotate_or_reuse(annotator, store, read_queries(path, store.images)).answers:
            pass


def _commit(annotator: Annotator, store: LabelStore, strategy: Strategy, queries: Sequence[Query]) -> None:
    answers, note = annotate_or_reuse(annotator, store, queries)
    store.commit(answers, strategy=strategy.name, annotator=annotator.name, exclusion=strategy.region_type.exclusion)
    entry, total = store.rounds[-1], sum(len(query.centres) for query in queries)
    if note:
        print(note, flush=True)
    if entry.queries < total:
        print(
            f"round {entry.number}: {entry.queries} of {total} queries are answered. The others count as not labelled: "
            "their share of the budget is not spent, and later rounds may query them, but for images that are skipped",
            flush=True,
        )
