"""Rolling back moves a pointer: whatever the order of commits and moves, nothing on disk disappears or changes."""

import json
import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import CLASSES, IMAGES, assert_holds, commit, draw_round, round_files, writer

from ripu_lightning.errors import UserError
from ripu_lightning.labels import Answers, LabelStore
from ripu_lightning.labels.maintenance import roll_back

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 3)),
        st.tuples(st.just("empty"), st.just(0)),
        st.tuples(st.just("number"), st.integers(0, 5)),
        st.tuples(st.just("id"), st.integers(0, 9)),
        st.tuples(st.just("reopen"), st.just(0)),
        st.tuples(st.just("left over"), st.just(0)),
    ),
    max_size=10,
)


@dataclass
class Model:
    """A tree of rounds as a list of (answers, parent), and the head; the plain truth to compare with."""

    made: list[tuple[list[Answers], int]]
    head: int = -1

    def chain(self) -> list[int]:
        found, at = [], self.head
        while at >= 0:
            found.insert(0, at)
            at = self.made[at][1]
        return found


def apply(store: LabelStore, model: Model, ids: list[str], kind: str, value: int) -> None:
    if kind in {"commit", "empty"}:
        answers = draw_round(value) if kind == "commit" else []
        entry = store.commit(answers, strategy="s", annotator="a", exclusion=2)
        model.made.append((answers, model.head))
        model.head = len(model.made) - 1
        ids.append(entry.sha256)
    elif kind == "number":
        chain = [-1, *model.chain()]
        if value < len(chain):
            store.roll_back(value)
            model.head = chain[value]
        else:
            with pytest.raises(UserError, match=f"round {value}: the active rounds are numbered 0"):
                store.roll_back(value)
    elif kind == "id" and value < len(ids):
        store.roll_back(ids[value][:10])
        model.head = value


@settings(max_examples=60)
@given(STEPS)
def test_against_a_plain_tree(steps: list[tuple[str, int]]) -> None:
    model, ids = Model([]), list[str]()
    with tempfile.TemporaryDirectory() as name:
        folder, store = Path(name), writer(Path(name))
        for kind, value in steps:
            before, committed = round_files(folder), {entry.file for entry in store.manifest.committed}
            if kind == "reopen":
                store.close()
                store = writer(folder)
            if kind == "left over":
                (folder / store.manifest.next_file()).write_bytes(b"half a round")
            apply(store, model, ids, kind, value)
            after = round_files(folder)
            assert {file: after[file] for file in committed} == {file: before[file] for file in committed}
            for view in (store, LabelStore.open(folder, classes=CLASSES, images=IMAGES)):
                assert [entry.sha256 for entry in view.rounds] == [ids[each] for each in model.chain()]
                assert [entry.number for entry in view.rounds] == list(range(1, len(model.chain()) + 1))
                assert {entry.sha256 for entry in view.inactive} == set(ids) - {ids[each] for each in model.chain()}
        chain = [model.made[each][0] for each in model.chain()]
        for number, answers in enumerate(chain, start=1):
            for expected in answers:
                found = store.answers(expected.image_id, number)
                assert found is not None
                assert found.values.tobytes() == expected.values.tobytes()
        if all(chain):
            assert_holds(store, chain)
        assert len(set(ids)) == len(ids)
        store.close()


def test_back_and_forth_and_another_branch(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, seed) for seed in range(3)]
        last = store.rounds[-1]
        store.roll_back(1)
        assert_holds(store, made[:1])
        assert [entry.file for entry in store.inactive] == ["round_002.parquet", "round_003.parquet"]
        branch = [made[0], commit(store, 7)]
        assert store.rounds[-1].file == "round_002_2.parquet"
        assert_holds(store, branch)
        store.roll_back(last.sha256[:6])
        assert_holds(store, made)
        store.roll_back("1")
        commit(store, 8)
        assert store.rounds[-1].file == "round_002_3.parquet"
        store.roll_back(0)
        assert store.rounds == ()
        assert len(store.inactive) == 5
    assert LabelStore.open(tmp_path).rounds == ()


@pytest.mark.parametrize(
    ("to", "message"),
    [
        (4, "numbered 0 .none. to 2"),
        (-1, "numbered 0"),
        ("3", "numbered 0"),
        ("abcde", "first 6 or more digits"),
        ("../../x", "first 6 or more digits"),
        ("ABCDEF", "first 6 or more digits"),
        ("000000000000", "no rounds' ids begin so"),
    ],
)
def test_rounds_that_are_not_there(tmp_path: Path, to: int | str, message: str) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, seed) for seed in range(2)]
        before = (tmp_path / "manifest.json").read_bytes()
        with pytest.raises(UserError, match=message):
            store.roll_back(to)
        assert_holds(store, made)
    with pytest.raises(UserError, match=message):
        roll_back(tmp_path, to)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_reader_and_a_second_writer_do_not_roll_back(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
        with pytest.raises(RuntimeError, match="open for reading only"):
            LabelStore.open(tmp_path).roll_back(0)
        with pytest.raises(UserError, match=f"is being written by process {os.getpid()}"):
            roll_back(tmp_path, 0)
        assert_holds(store, made)
    roll_back(tmp_path, 0)
    assert LabelStore.open(tmp_path).rounds == ()
    with pytest.raises(UserError, match="no label store in"):
        roll_back(tmp_path / "elsewhere", 0)
    assert not (tmp_path / "elsewhere").exists()


def test_a_damaged_round_is_left_behind(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, seed) for seed in range(3)]
        ids = [entry.sha256 for entry in store.rounds]
    path = tmp_path / "round_002.parquet"
    whole = path.read_bytes()
    for damage in (lambda: path.write_bytes(whole[:-1]), path.unlink):
        damage()
        with pytest.raises(UserError, match=r"rollback .* 1$"):
            LabelStore.open(tmp_path)
        roll_back(tmp_path, 1)
        with writer(tmp_path) as store:
            assert_holds(store, made[:1])
            assert [entry.number for entry, _ in store.open_inactive()] == [3]
            with pytest.raises(UserError, match=r"round_002\.parquet"):
                store.roll_back(ids[2])  # no round becomes active that cannot be read
            assert_holds(store, made[:1])
        roll_back(tmp_path, ids[2])
    path.write_bytes(whole)
    assert_holds(LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES), made)


def test_salvage_reads_the_rest(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, seed) for seed in range(3)]
    (tmp_path / "round_002.parquet").write_bytes(b"PAR1")
    store = LabelStore.salvage(tmp_path)
    assert list(store.damaged) == [2]
    assert "round_002.parquet is damaged" in store.damaged[2]
    with writer(tmp_path / "rest") as rest:
        for answers in (made[0], [], made[2]):
            rest.commit(answers, strategy="s", annotator="a", exclusion=2)
        for image in IMAGES:
            assert (store.mask(image) == rest.mask(image)).all()
            assert (store.query_round(image) == rest.query_round(image)).all()
            assert store.answers(image, 2) is None


def _interrupted(folder: Path) -> None:
    store = writer(folder)
    commit(store, 0)
    real = os.replace

    def last(source: str, target: str) -> None:
        real(source, target)
        os._exit(7)

    os.replace = last
    store.roll_back(0)


def test_killed_right_after_the_pointer_moved(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_interrupted, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == 7
    with writer(tmp_path) as store:
        assert (store.rounds, len(store.inactive)) == ((), 1)
        store.roll_back(store.inactive[0].sha256)
        assert_holds(store, [draw_round(0)])


def test_the_manifest_lists_every_round_and_the_head(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        for seed in range(2):
            commit(store, seed)
        store.roll_back(1)
        commit(store, 2)
    content = json.loads((tmp_path / "manifest.json").read_text())
    first, second, third = content["rounds"]
    assert content["format"] == 3
    assert content["head"] == third["sha256"]
    assert [entry["number"] for entry in content["rounds"]] == [1, 2, 2]
    assert [entry["parent"] for entry in content["rounds"]] == [None, first["sha256"], first["sha256"]]
    assert second["file"] == "round_002.parquet"
