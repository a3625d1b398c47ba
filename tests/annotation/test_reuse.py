"""Answers of inactive rounds are used again, against a plain dictionary of everything ever answered."""

import itertools
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.annotation import AnswersPending, FileAnnotator, Query
from ripu_lightning.annotation.reuse import annotate_or_reuse
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_QUERIED, Answers, LabelStore
from ripu_lightning.labels.answers import patches_of
from ripu_lightning.labels.maintenance import skip_images
from ripu_lightning.labels.rejection import reject_answers

IMAGES = {"a": (5, 6), "b": (4, 4), "c": (3, 7)}
BOXES = [(0, 0, 2, 2), (1, 1, 2, 2), (0, 0, 1, 1), (1, 0, 2, 3)]


class Person:
    """Answers every query differently each time, and records the queries."""

    name, reads_truth = "person", False

    def __init__(self, turned: bool = False) -> None:
        self.asked: list[list[Query]] = []
        self.given = np.random.default_rng(0)
        self.turned = turned

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        self.asked.append(list(queries))
        return (self.answer(query) for query in (reversed(queries) if self.turned else queries))

    def answer(self, query: Query) -> Answers:
        count = int((query.boxes[:, 2] * query.boxes[:, 3]).sum())
        values = self.given.choice(np.array([0, 1, 2, 255], dtype=np.uint8), count)
        if query.inside is not None:
            values[~query.inside] = NOT_QUERIED
        return Answers(query.image_id, query.centres, query.boxes, values, query.scores)


class Stubborn(Person):
    """Answers another query than the one it is given."""

    def __init__(self, other: Query) -> None:
        super().__init__()
        self.other = other

    def answer(self, query: Query) -> Answers:
        return super().answer(self.other)


def parts(query: Query) -> list[npt.NDArray[np.bool_]]:
    """The queried pixels of each box."""
    if not len(query.boxes):
        return []
    ends = np.cumsum(query.boxes[:, 2] * query.boxes[:, 3])
    inside = np.ones(int(ends[-1]), dtype=bool) if query.inside is None else query.inside
    return [inside[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def draw(picks: dict[str, list[int]], ragged: bool, seed: int) -> list[Query]:
    """For each image the boxes of some numbers; a ragged one leaves out the first pixel of every box."""
    rng, queries = np.random.default_rng(seed), []
    for index, image_id in enumerate(IMAGES):
        boxes = np.array([BOXES[pick] for pick in picks[image_id]], dtype=np.int32).reshape(-1, 4)
        sizes = (boxes[:, 2] * boxes[:, 3]).tolist()
        inside = np.concatenate([np.zeros(0, bool), *(np.arange(size) > 0 for size in sizes)]) if ragged else None
        scores = rng.random(len(boxes), dtype=np.float32)
        queries.append(Query(index, image_id, boxes[:, :2].copy(), boxes, inside, scores))
    return queries


PICKS = st.fixed_dictionaries({image: st.lists(st.integers(0, 3), unique=True, max_size=4) for image in IMAGES})
# Before each round: how far to roll back, and what to reject: a round ever committed, an image, a query (or all).
REJECTED = st.none() | st.tuples(st.integers(0, 9), st.sampled_from([None, *IMAGES]), st.integers(0, 3))
ROUNDS = st.lists(st.tuples(PICKS, st.booleans(), st.integers(0, 2), REJECTED), min_size=1, max_size=6)


class History:
    """Everything ever answered, as dictionaries."""

    def __init__(self) -> None:
        self.rounds: list[tuple[str, dict[tuple[object, ...], bytes]]] = []
        self.rejected: list[tuple[str, tuple[object, ...]]] = []

    def recall(self, inactive: set[str]) -> dict[tuple[object, ...], bytes]:
        known: dict[tuple[object, ...], bytes] = {}
        for digest, contents in self.rounds:
            for key, values in contents.items() if digest in inactive else ():
                if (digest, key) in self.rejected:
                    known.pop(key, None)
                else:
                    known[key] = values
        return known

    def reject(self, digest: str, keys: list[tuple[object, ...]]) -> None:
        wrong = [(key, dict(self.rounds)[digest][key]) for key in keys]
        for other, contents in self.rounds:
            self.rejected += [
                (other, key)
                for key, values in wrong
                if contents.get(key) == values and (other, key) not in self.rejected
            ]

    def count(self, keys: Iterable[tuple[object, ...]]) -> int:
        return sum(key == other for key in keys for _, other in self.rejected)


def reject_one(folder: Path, history: History, choice: tuple[int, str | None, int] | None) -> None:
    """Reject what a drawn choice means, if anything; in the store and in the history."""
    if choice is None or not history.rounds:
        return
    number, image_id, query = choice
    digest, contents = history.rounds[number % len(history.rounds)]
    keys = [key for key in contents if image_id in (None, key[0])]
    if not keys:
        return
    some = image_id is not None and 0 < query <= len(keys)
    images, queries = ([image_id] if image_id else []), ([query] if some else [])
    before = LabelStore.open(folder).rounds
    done = reject_answers(folder, digest, images, queries)
    history.reject(digest, keys[query - 1 : query] if some else keys)
    assert done.queries == (1 if some else len(keys))
    wrong = {other for other, _ in history.rejected}
    safe = list(itertools.takewhile(lambda entry: entry.sha256 not in wrong, before))
    assert list(LabelStore.open(folder).rounds) == safe
    assert (done.again is None) == (len(safe) == len(before))


@settings(max_examples=80, deadline=None)
@given(ROUNDS, st.booleans())
def test_against_a_plain_dictionary(rounds: list[Any], turned: bool) -> None:
    person, history = Person(turned), History()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, (picks, ragged, back, choice) in enumerate(rounds):
            reject_one(folder, history, choice)
            with LabelStore.create_or_open(folder, classes=("x", "y", "z"), images=IMAGES) as store:
                store.roll_back(max(0, len(store.rounds) - back))
                known = history.recall({entry.sha256 for entry in store.inactive})
                queries = draw(picks, ragged, seed)
                before = len(person.asked)
                found = annotate_or_reuse(person, store, queries)
                answers = list(found.answers)
                entry = store.commit(answers, strategy="s", annotator="person", exclusion=0)
            asked = keys_of(person.asked[before] if len(person.asked) > before else [])
            made: dict[tuple[object, ...], bytes] = {}
            by_image = {each.image_id: each for each in answers}
            for query in queries:
                got = by_image[query.image_id]
                for name in ("centres", "boxes", "scores"):
                    assert getattr(got, name).tobytes() == getattr(query, name).tobytes()
                start = 0
                for key, part in zip(keys_of([query]), parts(query), strict=True):
                    values = got.values[start : start + len(part)]
                    start += len(part)
                    assert ((values != NOT_QUERIED) == part).all()
                    made[key] = values.tobytes()
                    assert (key in asked) == (key not in known)
                    if key in known:
                        assert made[key] == known[key]
            for query in person.asked[before] if asked else ():
                assert query.rejected == history.count(keys_of([query]))
            assert bool(found.note) == (len(asked) < len(made))
            if not turned:
                assert [each.image_id for each in answers] == list(IMAGES)
            history.rounds.append((entry.sha256, made))


def keys_of(queries: Iterable[Query]) -> list[tuple[object, ...]]:
    """Image, box and queried pixels of each query."""
    return [
        (each.image_id, tuple(box), part.tobytes())
        for each in queries
        for box, part in zip(each.boxes.tolist(), parts(each), strict=True)
    ]


def store_with_an_inactive_round(folder: Path, person: Person, queries: list[Query]) -> LabelStore:
    store = LabelStore.create_or_open(folder, classes=("x", "y", "z"), images=IMAGES)
    store.commit(person.annotate(1, queries), strategy="s", annotator="person", exclusion=0)
    store.roll_back(0)
    return store


ALL = {"a": [0, 2], "b": [1], "c": [3, 0]}


def test_the_annotator_is_not_called_where_all_is_known(tmp_path: Path) -> None:
    person, queries = Person(), draw(ALL, False, 0)
    with store_with_an_inactive_round(tmp_path, person, queries) as store:
        again = [replace(query, scores=query.scores + 1) for query in queries]
        found = list(annotate_or_reuse(person, store, again).answers)
        assert len(person.asked) == 1
        for query, answers in zip(again, found, strict=True):
            (entry,) = store.inactive
            assert answers.scores.tolist() == query.scores.tolist()
            assert entry.queries == sum(len(each.centres) for each in queries)


def test_without_inactive_rounds_the_annotator_gets_the_very_queries(tmp_path: Path) -> None:
    person, queries = Person(), draw(ALL, False, 0)
    store = LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES)
    with store:
        store.commit(person.annotate(1, queries), strategy="s", annotator="person", exclusion=0)
        found = annotate_or_reuse(person, store, queries).answers
        assert all(one is other for one, other in zip(person.asked[1], queries, strict=True))
        assert len(list(found)) == 3


def test_a_damaged_inactive_round_is_ignored(tmp_path: Path) -> None:
    person, queries = Person(), draw(ALL, False, 0)
    with store_with_an_inactive_round(tmp_path, person, queries) as store:
        path = tmp_path / "round_001.parquet"
        path.write_bytes(path.read_bytes()[:-1])
        assert len(list(annotate_or_reuse(person, store, queries).answers)) == 3
        assert len(person.asked) == 2


def test_answers_to_other_boxes_are_refused(tmp_path: Path) -> None:
    person, queries = Person(), draw(ALL, False, 0)
    with store_with_an_inactive_round(tmp_path, person, queries) as store:
        more = draw({**ALL, "a": [0, 3]}, False, 1)
        with pytest.raises(ValueError, match="a: the annotator answered other boxes"):
            list(annotate_or_reuse(Stubborn(queries[0]), store, more).answers)


def test_an_answer_that_the_rejected_one_had_replaced_does_not_come_back(tmp_path: Path) -> None:
    queries, person = draw({"a": [2], "b": [], "c": []}, False, 0), Person()
    with LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES) as store:
        for value in (0, 1):
            box = queries[0].boxes
            answers = Answers("a", queries[0].centres, box, np.array([value], np.uint8), queries[0].scores)
            store.commit([answers], strategy="s", annotator="person", exclusion=0)
            store.roll_back(0)
        second = store.inactive[1].id
    reject_answers(tmp_path, second)
    with LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES) as store:
        assert annotate_or_reuse(person, store, queries).note == ""
    assert [query.rejected for query in person.asked[0]] == [1]


class Hasty(Person):
    """Leaves out the queries whose number is drawn; the images come in any order."""

    partial = True

    def __init__(self, left_out: set[int], turned: bool) -> None:
        super().__init__(turned)
        self.left_out, self.count = left_out, 0

    def answer(self, query: Query) -> Answers:
        whole = super().answer(query)
        rows = np.array([self.count + row not in self.left_out for row in range(len(whole))])
        self.count += len(whole)
        values = [part for part, kept in zip(patches_of(whole.values, whole.boxes), rows, strict=True) if kept]
        return Answers(
            query.image_id,
            whole.centres[rows],
            whole.boxes[rows],
            np.concatenate([np.empty(0, np.uint8), *values]),
            whole.scores[rows],
        )


@given(PICKS, PICKS, st.sets(st.integers(0, 11)), st.booleans())
def test_a_partial_annotator_against_a_plain_dictionary(
    before: dict[str, list[int]], picks: dict[str, list[int]], left_out: set[int], turned: bool
) -> None:
    """What is known is used again, what is answered is stored, and nothing else is in the round."""
    with tempfile.TemporaryDirectory() as folder:
        store = LabelStore.create_or_open(Path(folder), classes=("x", "y", "z"), images=IMAGES)
        with store:
            store.commit(Person().annotate(1, draw(before, False, 0)), strategy="s", annotator="p", exclusion=0)
            store.roll_back(0)
            hasty = Hasty(left_out, turned)
            answers = list(annotate_or_reuse(hasty, store, draw(picks, False, 1)).answers)
            new = [(image, pick) for image in IMAGES for pick in picks[image] if pick not in before[image]]
            asked = sorted(new, key=lambda each: list(IMAGES).index(each[0]), reverse=turned)
            if turned:  # images backwards, the queries of each in their order
                asked = [each for image in reversed(IMAGES) for each in new if each[0] == image]
            lost = {each for number, each in enumerate(asked) if number in left_out}
            expected = {image: [pick for pick in picks[image] if (image, pick) not in lost] for image in IMAGES}
            assert {each.image_id: each.boxes.tolist() for each in answers} == {
                image: [list(BOXES[pick]) for pick in chosen] for image, chosen in expected.items()
            }
            entry = store.commit(answers, strategy="s", annotator="p", exclusion=0)
            assert entry.queries == sum(map(len, expected.values()))
            assert entry.pixels == sum(each.pixels for each in answers)


def test_only_a_partial_annotator_may_leave_out_queries(tmp_path: Path) -> None:
    hasty = Hasty({0}, False)
    hasty.partial = False
    store = LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES)
    with store, pytest.raises(ValueError, match="a: the annotator answered other boxes"):
        list(annotate_or_reuse(hasty, store, draw(ALL, False, 0)).answers)


class Holding(Hasty):
    """Has a folder for the queries, in which no image is complete."""

    def held(self, round_number: int, queries: Sequence[Query]) -> set[str]:
        self.looked_for = [query.image_id for query in queries]
        return set()


def test_a_partial_annotator_that_has_part_of_an_image_leaves_the_rest_to_the_history(tmp_path: Path) -> None:
    holding = Holding({1, 2}, False)
    holding.given = np.random.default_rng(7)
    only = {"b": list[int](), "c": list[int]()}
    with LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES) as store:
        old = list(Person().annotate(1, draw({"a": [0, 2], **only}, False, 0)))
        store.commit(old, strategy="s", annotator="p", exclusion=0)
        store.roll_back(0)
        found = next(iter(annotate_or_reuse(holding, store, draw({"a": [0, 2, 1], **only}, False, 1)).answers))
    assert [len(query.centres) for query in holding.asked[0]] == [3]
    fresh = np.random.default_rng(7).choice(np.array([0, 1, 2, 255], dtype=np.uint8), 12)[:4]
    assert fresh.tolist() != old[0].values[:4].tolist()
    assert found.boxes.tolist() == [list(BOXES[0]), list(BOXES[2])]
    assert found.values.tolist() == [*fresh.tolist(), *old[0].values[4:].tolist()]


class Talkative(Person):
    """Answers one image twice."""

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        return super().annotate(round_number, [*queries, queries[0]])


def test_answers_to_more_than_was_queried_are_refused(tmp_path: Path) -> None:
    store = LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES)
    with (
        store,
        pytest.raises(ValueError, match="a: the annotator answered an image that was not queried, or one twice"),
    ):
        list(annotate_or_reuse(Talkative(), store, draw(ALL, False, 0)).answers)


def test_skipped_images_are_left_out_of_the_round_that_waits(tmp_path: Path) -> None:
    LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES).close()
    skip_images(tmp_path, ["a"])
    person = Person()
    with LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES) as store:
        assert [each.image_id for each in annotate_or_reuse(person, store, draw(ALL, False, 0)).answers] == ["b", "c"]
        assert [query.image_id for query in person.asked[0]] == ["b", "c"]
        assert not store.available("a").any()
        assert store.available("b").all()
    skip_images(tmp_path, ["c", "a"])
    assert LabelStore.open(tmp_path).manifest.skipped == ("a", "c")
    with pytest.raises(UserError, match="no image 'bb'; did you mean 'b'"):
        skip_images(tmp_path, ["a", "bb"])


def test_a_skipped_image_keeps_its_labels_where_its_round_is_repeated(tmp_path: Path) -> None:
    with LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES) as store:
        old = list(Person().annotate(1, draw({"a": [0, 2], "b": [1], "c": [3]}, False, 0)))
        store.commit(old, strategy="s", annotator="p", exclusion=0)
    skip_images(tmp_path, ["a", "c"])
    reject_answers(tmp_path, 1, ["b"])
    reject_answers(tmp_path, LabelStore.open(tmp_path).inactive[0].id, ["c"])
    for picks in ([0, 2], [1, 0, 2]):  # the queries of the round, and one more that nobody has answered
        holding = Holding(set(), False)
        with LabelStore.create_or_open(tmp_path, classes=("x", "y", "z"), images=IMAGES) as store:
            result = annotate_or_reuse(holding, store, draw({"a": picks, "b": [1], "c": [3]}, False, 0))
            found = list(result.answers)
        assert holding.looked_for == [query.image_id for query in holding.asked[0]] == ["b"]
        assert [answers.image_id for answers in found] == ["a", "b"]
        assert found[0].boxes.tolist() == old[0].boxes.tolist()
        assert found[0].values.tolist() == old[0].values.tolist()
        assert "2 of 3 queries keep" in result.note


class Pictures(SegmentationDataset):
    """Black pictures without labels."""

    classes = ClassMap(("x", "y", "z"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))

    def __init__(self) -> None:
        self.ids = list(IMAGES)

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        return np.zeros((*self.size(index), 3), dtype=np.uint8)

    def label(self, index: int) -> npt.NDArray[np.uint8]:
        raise AssertionError("the truth was opened")

    def size(self, index: int) -> tuple[int, int]:
        return IMAGES[self.ids[index]]


def test_files_are_not_touched_where_all_is_known(tmp_path: Path) -> None:
    queries, folder = draw(ALL, False, 0), tmp_path / "annotation"
    with store_with_an_inactive_round(tmp_path / "labels", Person(), queries) as store:
        annotator = FileAnnotator(Pictures(), folder)
        assert len(list(annotate_or_reuse(annotator, store, queries).answers)) == 3
        assert not folder.exists()
        (folder / "round_001").mkdir(parents=True)  # which has no queries: it is somebody else's
        assert len(list(annotate_or_reuse(annotator, store, queries).answers)) == 3
        with pytest.raises(AnswersPending, match="1 regions in 1 images"):
            annotate_or_reuse(annotator, store, draw({**ALL, "b": [1, 2]}, False, 1))
        assert [path.name for path in (folder / "round_001_2" / "asked").iterdir()] == ["b.png"]
