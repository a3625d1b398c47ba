"""The label store gives back exactly what was committed, as columns, images and PNG files."""

import importlib.util
import multiprocessing
import pickle
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import CLASSES, IMAGES, assert_holds, commit, draw_answers, draw_round, slow_images, writer

from ripu_lightning.labels import NOT_QUERIED, VOID, Answers, LabelStore, masks, round_file


@settings(max_examples=40)
@given(data=st.data())
def test_images_match_painting_pixel_by_pixel(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    history: dict[str, list[tuple[int, Answers]]] = {image: [] for image in IMAGES}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # Tiny row groups, so that images fall into several.
        patch.setattr(round_file, "_ROWS", data.draw(st.integers(1, 12)))
        patch.setattr(masks, "_SMALL", data.draw(st.sampled_from([0, 5, 2**21])))
        with writer(Path(folder)) as store:
            for _ in range(data.draw(st.integers(1, 3))):
                exclusion = data.draw(st.integers(0, 20))
                made = [
                    draw_answers(rng, image, IMAGES[image], data.draw(st.integers(0, 6)))
                    for image in data.draw(st.permutations(list(IMAGES)))
                ]
                entry = store.commit(iter(made), strategy="s", annotator="a", exclusion=exclusion)
                assert entry.queries == sum(len(answers) for answers in made)
                assert entry.pixels == sum(int((answers.values != NOT_QUERIED).sum()) for answers in made)
                assert entry.void == sum(int((answers.values == VOID).sum()) for answers in made)
                for answers in made:
                    history[answers.image_id].append((exclusion, answers))
        for view in (store, LabelStore.open(folder, classes=CLASSES, images=IMAGES)):
            for image, size in IMAGES.items():
                mask, available, asked = slow_images(size, history[image])
                np.testing.assert_array_equal(view.mask(image), mask)
                np.testing.assert_array_equal(view.available(image), available)
                np.testing.assert_array_equal(view.query_round(image), asked)


def test_columns_come_back_exactly(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, seed) for seed in range(2)]
    reader = LabelStore.open(tmp_path)
    for number, answers in enumerate(made, start=1):
        for expected in answers:
            found = reader.answers(expected.image_id, number)
            assert found is not None
            for name in ("centres", "boxes", "values", "scores"):
                column, wanted = getattr(found, name), getattr(expected, name)
                np.testing.assert_array_equal(column, wanted)
                assert column.dtype == wanted.dtype
    assert [entry.strategy for entry in reader.rounds] == ["s0", "s1"]
    assert reader.queries == 30
    assert reader.pixels == sum(each.pixels for answers in made for each in answers)
    assert reader.void == sum(each.void for answers in made for each in answers)


def test_an_image_never_asked_about_is_empty(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        store.commit(draw_round(0)[:1], strategy="s", annotator="a", exclusion=1)
        assert store.queried_images == ("town/a",)
        assert store.answers("c", 1) is None
        assert (store.mask("c") == VOID).all()
        assert store.available("c").all()
        assert not store.query_round("c").any()
        with pytest.raises(ValueError, match="elsewhere: no image"):
            store.mask("elsewhere")
    assert LabelStore.open(tmp_path).mask("c").shape == IMAGES["c"]  # as the manifest says


def test_a_round_without_answers_is_a_round(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        assert store.commit([], strategy="s", annotator="a", exclusion=1).queries == 0
        made = draw_round(1)
        store.commit(made, strategy="s", annotator="a", exclusion=1)
        assert set(np.unique(store.query_round("town/a"))) == {0, 2}


def test_many_images_with_one_point_each(tmp_path: Path) -> None:
    # So many long ids that the dictionary of a row group overflows.
    images = {f"{k:06d}-{'long' * 25}": (20_000, 1) for k in range(20_000)}
    one = np.ones((1, 2), dtype=np.int32)

    def stream() -> Iterator[Answers]:
        for k, image in enumerate(images):
            point = one * [[k, 0]]
            box = np.concatenate([point, one], axis=1).astype(np.int32)
            value = np.array([k % 3], dtype=np.uint8)
            yield Answers(image, point.astype(np.int32), box, value, np.ones(1, dtype=np.float32))

    with LabelStore.create_or_open(tmp_path, classes=CLASSES, images=images) as store:
        store.commit(stream(), strategy="point", annotator="truth", exclusion=0)
        assert store.queried_images == tuple(images)
        for k in (0, 1, 9_999, 16_383, 16_384, 19_999):
            mask = store.mask(list(images)[k])
            assert mask[k, 0] == k % 3
            assert (mask != VOID).sum() == 1


def test_a_large_patch_comes_back(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 3, 1500 * 1200).astype(np.uint8)
    box = np.array([[0, 0, 1500, 1200]], dtype=np.int32)
    answers = Answers("whole", box[:, :2] + 700, box, values, np.ones(1, dtype=np.float32))
    with LabelStore.create_or_open(tmp_path, classes=CLASSES, images={"whole": (1500, 1200)}) as store:
        store.commit([answers], strategy="image", annotator="truth", exclusion=0)
        np.testing.assert_array_equal(store.mask("whole").ravel(), values)


def test_commit_holds_a_few_images_at_a_time(tmp_path: Path) -> None:
    images = {f"i{k}": (600, 600) for k in range(60)}

    def stream() -> Iterator[Answers]:
        for k, (image, size) in enumerate(images.items()):
            yield draw_answers(np.random.default_rng(k), image, size, 6000)

    whole = sum(each.values.nbytes + 28 * len(each) for each in stream())
    with LabelStore.create_or_open(tmp_path, classes=CLASSES, images=images) as store:
        tracemalloc.start()
        store.commit(stream(), strategy="s", annotator="a", exclusion=1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < whole / 3


def test_a_walk_decodes_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_file, "_ROWS", 40)
    images = {f"i{k}": (9, 9) for k in range(60)}
    made = [[draw_answers(np.random.default_rng([r, k]), f"i{k}", (9, 9), 3) for k in range(60)] for r in range(4)]
    decoded, decode = [], round_file.RoundFile._decode
    with LabelStore.create_or_open(tmp_path, classes=CLASSES, images=images) as store:
        for answers in made:
            store.commit(answers, strategy="s", annotator="a", exclusion=0)
        monkeypatch.setattr(
            round_file.RoundFile, "_decode", lambda self, group: decoded.append((self, group)) or decode(self, group)
        )
        for reader in (store, pickle.loads(pickle.dumps(store))):
            for k in range(60):
                for number, answers in enumerate(made, start=1):
                    found = reader.answers(f"i{k}", number)
                    assert found is not None
                    np.testing.assert_array_equal(found.values, answers[k].values)
                    found.values[:] = 77  # a copy: nobody spoils what is kept
                assert reader.mask(f"i{k}").max() != 77
            assert len(decoded) == len(set(decoded)) == 4 * 5  # 40 rows and more: 14 images a group
            decoded.clear()


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def group(pixels: int) -> Answers:
        box = np.array([[0, 0, 1, pixels]], np.int32)
        return Answers("", box[:, :2].copy(), box, np.zeros(pixels, np.uint8), np.zeros(1, np.float32))

    monkeypatch.setattr(round_file, "_KEPT", 10_000)
    cache, made = round_file.GroupCache(), []
    for key in [0, 1, 2, 0, 3, 0, 4, 0, 5, 1]:
        kept = cache.get(key, lambda key=key: made.append(key) or group(2_900))
        assert kept.values.nbytes == 2_900
    assert made == [0, 1, 2, 3, 4, 5, 1]
    cache.get("large", lambda: group(50_000))
    assert list(cache._groups) == ["large"]
    assert pickle.loads(pickle.dumps(cache))._groups == {}


@pytest.mark.parametrize("exclusion", [0, 2**31 - 1])
def test_painting_takes_a_few_times_the_image(tmp_path: Path, exclusion: int) -> None:
    side, count = 1200, 40
    boxes = np.array([[0, 0, side, side], *[[5, 5, 400, 400]] * count], dtype=np.int32)
    values = np.zeros(side**2 + count * 400**2, dtype=np.uint8)
    answers = Answers("whole", boxes[:, :2].copy(), boxes, values, np.ones(len(boxes), dtype=np.float32))
    with LabelStore.create_or_open(tmp_path, classes=CLASSES, images={"whole": (side, side)}) as store:
        store.commit([answers], strategy="image", annotator="truth", exclusion=exclusion)
        for read in (store.mask, store.query_round, store.available):
            read("whole")
            tracemalloc.start()
            assert not read("whole").any() or read == store.query_round
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 5 * values.nbytes + (100 << 20)


def _mask_in_worker(pickled: bytes) -> tuple[bytes, str]:
    store: LabelStore = pickle.loads(pickled)
    try:
        store.commit([], strategy="s", annotator="a", exclusion=0)
    except RuntimeError as error:
        return store.mask("town/a").tobytes(), str(error)
    return b"", "committed"


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_workers_read_and_do_not_write(tmp_path: Path, method: str) -> None:
    with writer(tmp_path) as store:
        commit(store, 3)
        with multiprocessing.get_context(method).Pool(1) as pool:
            content, refusal = pool.apply(_mask_in_worker, (pickle.dumps(store),))
        assert content == store.mask("town/a").tobytes()
        assert "open for reading only" in refusal
        commit(store, 4)


def test_refresh_shows_new_rounds_only_when_asked(tmp_path: Path) -> None:
    with writer(tmp_path) as store:
        made = [commit(store, 0)]
        reader = LabelStore.open(tmp_path, classes=CLASSES, images=IMAGES)
        made.append(commit(store, 1))
        assert_holds(reader, made[:1])
        reader.refresh()
        assert_holds(reader, made)


def test_bytes_a_query_on_realistic_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "store_size.py"
    spec = importlib.util.spec_from_file_location("store_size", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    # A quarter of the area keeps the test short; it saves a quarter of a byte a query.
    monkeypatch.setattr(benchmark, "HEIGHT", 512)
    monkeypatch.setattr(benchmark, "WIDTH", 1024)
    scenes = [benchmark.draw_rounds(seed) for seed in range(2)]
    patches = np.concatenate([each.values[: 9 * (len(each.values) // 9)] for each in scenes[0]])
    assert len(np.unique(patches)) > 4
    store, _ = benchmark.build(tmp_path, ["a", "b"], scenes)
    with store:
        size = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert store.queries == 2 * 5 * 1026
        assert size / store.queries < benchmark.LIMIT / benchmark.FULL - 0.25
