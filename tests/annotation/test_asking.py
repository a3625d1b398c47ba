"""Rounds that wait, are rolled back and come up again: every answer is asked for once."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_recall import ALL, IMAGES, Person, draw

from ripu_lightning.annotation import Query, Waiting
from ripu_lightning.annotation.queries import write_queries
from ripu_lightning.errors import UserError
from ripu_lightning.labels import Answers, LabelStore
from ripu_lightning.training.asking import ask, check_answers, settle

STRATEGY: Any = SimpleNamespace(name="s", geometry=SimpleNamespace(exclusion=0))


class Later(Person):
    """Has no time until ``ready``."""

    ready = False

    def ask(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        if not self.ready:
            raise Waiting("come back later")
        return super().ask(round_number, queries)


def open_store(folder: Path) -> LabelStore:
    return LabelStore.create_or_open(folder, classes=("x", "y", "z"), images=IMAGES)


def test_the_same_round_again_is_not_asked_again(tmp_path: Path) -> None:
    person, queries = Person(), draw(ALL, True, 0)
    with open_store(tmp_path) as store:
        assert ask(person, store, STRATEGY, queries) is None
        masks = [store.mask(image).tobytes() for image in IMAGES]
        store.roll_back(0)  # as after going on from an older checkpoint
        assert ask(person, store, STRATEGY, queries) is None
        assert [store.mask(image).tobytes() for image in IMAGES] == masks
        assert (len(person.asked), len(store.rounds), len(store.set_aside)) == (1, 1, 1)
        assert [entry.annotator for entry in store.rounds] == ["person"]


def test_questions_of_another_history_are_not_settled(tmp_path: Path) -> None:
    later, first, second = Later(), draw(ALL, False, 0), draw({"a": [1], "b": [2], "c": []}, False, 1)
    with open_store(tmp_path) as store:
        assert ask(Person(), store, STRATEGY, first) is None
        head = store.rounds[-1].sha256
        assert ask(later, store, STRATEGY, second) == "come back later"
        store.roll_back(0)
        assert ask(Person(), store, STRATEGY, draw({"a": [3], "b": [], "c": []}, False, 2)) is None
        later.ready = True
        settle(later, store, STRATEGY)  # round 2 waits, but after another round 1
        assert (len(store.rounds), later.asked) == (1, [])
        store.roll_back(head)
        check_answers(later, store)
        settle(later, store, STRATEGY)
        assert (len(store.rounds), len(later.asked)) == (2, 2)
        assert not list(tmp_path.glob("asked_*"))
        settle(later, store, STRATEGY)
        assert len(store.rounds) == 2


def test_killed_after_the_commit_of_a_round_that_waited(tmp_path: Path) -> None:
    later, queries = Later(), draw(ALL, False, 0)
    with open_store(tmp_path) as store:
        ask(later, store, STRATEGY, queries)
        (path,) = tmp_path.glob("asked_*")
        kept = path.read_bytes()
        later.ready = True
        settle(later, store, STRATEGY)
        path.write_bytes(kept)  # as if killed before it was removed
        settle(later, store, STRATEGY)
        assert (len(store.rounds), len(later.asked)) == (1, 1)
        store.roll_back(0)
        settle(later, store, STRATEGY)  # comes up again, and is known
        assert (len(store.rounds), len(later.asked)) == (1, 1)


def test_damaged_questions_are_told(tmp_path: Path) -> None:
    later, queries = Later(), draw(ALL, False, 0)
    with open_store(tmp_path) as store:
        ask(later, store, STRATEGY, queries)
        (path,) = tmp_path.glob("asked_*")
        whole = path.read_bytes()
        others = [Query(0, "a", *(np.zeros((1, n), np.int32) for n in (2, 4)), None, np.ones(1, np.float32))]
        for damage in (lambda: path.write_bytes(whole[:-9]), lambda: write_queries(path, others)):
            damage()
            for read in (lambda: check_answers(later, store), lambda: settle(later, store, STRATEGY)):
                with pytest.raises(UserError, match=r"asked_001\.parquet is damaged \(.*\): restore"):
                    read()
        assert store.rounds == ()
