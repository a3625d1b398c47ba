"""Rounds that wait, are rolled back and come up again: every query reaches the annotator once."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_reuse import ALL, IMAGES, Person, draw

from ripu_lightning.annotation import AnswersPending, Query
from ripu_lightning.annotation.queries import write_queries
from ripu_lightning.errors import UserError
from ripu_lightning.labels import Answers, LabelStore
from ripu_lightning.training.annotation_round import annotate_round, check_pending, commit_pending

STRATEGY: Any = SimpleNamespace(name="s", region_type=SimpleNamespace(exclusion=0))


class Later(Person):
    """Has no time until ``ready``."""

    ready = False

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        if not self.ready:
            raise AnswersPending("come back later")
        return super().annotate(round_number, queries)


def open_store(folder: Path) -> LabelStore:
    return LabelStore.create_or_open(folder, classes=("x", "y", "z"), images=IMAGES)


def test_the_same_round_again_is_not_pending_again(tmp_path: Path) -> None:
    person, queries = Person(), draw(ALL, True, 0)
    with open_store(tmp_path) as store:
        assert annotate_round(person, store, STRATEGY, queries) is None
        masks = [store.mask(image).tobytes() for image in IMAGES]
        store.roll_back(0)  # as after going on from an older checkpoint
        assert annotate_round(person, store, STRATEGY, queries) is None
        assert [store.mask(image).tobytes() for image in IMAGES] == masks
        assert (len(person.asked), len(store.rounds), len(store.inactive)) == (1, 1, 1)
        assert [entry.annotator for entry in store.rounds] == ["person"]


def test_queries_of_another_history_are_not_settled(tmp_path: Path) -> None:
    later, first, second = Later(), draw(ALL, False, 0), draw({"a": [1], "b": [2], "c": []}, False, 1)
    with open_store(tmp_path) as store:
        assert annotate_round(Person(), store, STRATEGY, first) is None
        head = store.rounds[-1].sha256
        assert annotate_round(later, store, STRATEGY, second) == "come back later"
        store.roll_back(0)
        assert annotate_round(Person(), store, STRATEGY, draw({"a": [3], "b": [], "c": []}, False, 2)) is None
        later.ready = True
        commit_pending(later, store, STRATEGY)  # round 2 waits, but after another round 1
        assert (len(store.rounds), later.asked) == (1, [])
        store.roll_back(head)
        check_pending(later, store)
        commit_pending(later, store, STRATEGY)
        assert (len(store.rounds), len(later.asked)) == (2, 2)
        assert not list(tmp_path.glob("pending_*"))
        commit_pending(later, store, STRATEGY)
        assert len(store.rounds) == 2


def test_killed_after_the_commit_of_a_round_that_waited(tmp_path: Path) -> None:
    later, queries = Later(), draw(ALL, False, 0)
    with open_store(tmp_path) as store:
        annotate_round(later, store, STRATEGY, queries)
        (path,) = tmp_path.glob("pending_*")
        kept = path.read_bytes()
        later.ready = True
        commit_pending(later, store, STRATEGY)
        path.write_bytes(kept)  # as if killed before it was removed
        commit_pending(later, store, STRATEGY)
        assert (len(store.rounds), len(later.asked)) == (1, 1)
        store.roll_back(0)
        commit_pending(later, store, STRATEGY)  # comes up again, and is known
        assert (len(store.rounds), len(later.asked)) == (1, 1)


def test_damaged_queries_are_reported(tmp_path: Path) -> None:
    later, queries = Later(), draw(ALL, False, 0)
    with open_store(tmp_path) as store:
        annotate_round(later, store, STRATEGY, queries)
        (path,) = tmp_path.glob("pending_*")
        whole = path.read_bytes()
        one = np.array([[0, 0, 1, 1]], np.int32)
        others = [Query(0, "a", one[:, :2].copy(), one, None, np.ones(1, np.float32))]
        for damage in (lambda: path.write_bytes(whole[:-9]), lambda: write_queries(path, others, {"a": (9, 9)})):
            damage()
            for read in (lambda: check_pending(later, store), lambda: commit_pending(later, store, STRATEGY)):
                with pytest.raises(UserError, match=r"pending_001\.parquet is damaged \(.*\): restore"):
                    read()
        assert store.rounds == ()
