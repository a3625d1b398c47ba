"""The ledger against loops over pixels, for a run and for stores of any shape."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tiny_run import TinyRun

import tiny
from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.resizing import resize_mask
from ripu_lightning.data.statistics import on_boundary
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_QUERIED, VOID, Answers, LabelStore
from ripu_lightning.report.ledger import Ledger, read_ledger
from ripu_lightning.report.ledger_counting import count_clicks, make_ledger, resized_positions
from tiny import Stamped

SIZE = (24, 32)


def slow_boundary(label: np.ndarray) -> np.ndarray:
    """Pixel by pixel."""
    found = np.zeros(label.shape, dtype=bool)
    for row, column in np.ndindex(label.shape):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            other = row + down, column + right
            if 0 <= other[0] < label.shape[0] and 0 <= other[1] < label.shape[1]:
                pair = {int(label[row, column]), int(label[other])}
                found[row, column] |= len(pair) == 2 and 255 not in pair
    return found


def answers_of(dataset: Stamped, index: int, seed: int, count: int) -> Answers:
    """Boxes that do not overlap, on a grid; every other one is a single pixel."""
    rng = np.random.default_rng(seed)
    places = rng.permutation((SIZE[0] // 4) * (SIZE[1] // 4))[:count]
    corners = np.stack([places // (SIZE[1] // 4), places % (SIZE[1] // 4)], axis=1) * 4
    sides = np.where(np.arange(count)[:, None] % 2, 1, 4).repeat(2, axis=1)
    boxes = np.concatenate([corners, sides], axis=1).astype(np.int32)
    label = dataset.label(index)
    patches = [label[top : top + h, left : left + w].ravel() for top, left, h, w in boxes.tolist()]
    values = np.concatenate(patches)
    values[::7] = NOT_QUERIED
    scores = np.sort(rng.random(count).astype(np.float32))[::-1].copy()
    return Answers(dataset.ids[index], corners.astype(np.int32), boxes, values, scores)


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Stamped, LabelStore, list[list[Answers]]]:
    """Two rounds about three images of five, one of which is queried twice."""
    dataset = Stamped("target!")
    images = dict.fromkeys(dataset.ids, SIZE)
    rounds = [
        [answers_of(dataset, 0, 1, 9), answers_of(dataset, 3, 2, 4)],
        [answers_of(dataset, 1, 3, 5), answers_of(dataset, 3, 4, 7)],
    ]
    with LabelStore.create_or_open(tmp_path / "labels", classes=dataset.classes.names, images=images) as store:
        for answers in rounds:
            store.commit(iter(answers), strategy="s", annotator="a", exclusion=0)
    return dataset, LabelStore.open(tmp_path / "labels"), rounds


def data(dataset: object, size: tuple[int, int] | None = None, **options: object) -> ActiveDataModule:
    return ActiveDataModule(tiny.Blocks("source", 2), dataset, None, target_size=size, **options)


@pytest.mark.parametrize("size", [None, (17, 20), (48, 64), (12, 70)])
def test_rounds_equal_loops_over_pixels(labelled: tuple, size: tuple[int, int] | None) -> None:
    dataset, store, rounds = labelled
    ledger = make_ledger(data(dataset, size), store, "square")
    for cost, answers in zip(ledger.rounds, rounds, strict=True):
        clicks = classes = boundary = kept = trained = 0
        classes = np.zeros(3, dtype=int)
        for each in answers:
            position = {image: index for index, image in enumerate(dataset.ids)}[each.image_id]
            edges, mask, start = slow_boundary(dataset.label(position)), np.full(SIZE, 255, np.uint8), 0
            for top, left, height, width in each.boxes.tolist():
                patch = each.values[start : start + height * width].reshape(height, width)
                start += height * width
                clicks += len(set(patch.ravel().tolist()) - {NOT_QUERIED})
                for row, column in np.argwhere(patch < VOID - 1).tolist():
                    mask[top + row, left + column] = patch[row, column]
            answered = mask != 255
            boundary += int((edges & answered).sum())
            classes += [int((mask == index).sum()) for index in range(3)]
            small = resize_mask(mask, size) if size else mask
            trained += int((small != 255).sum())
            for row, column in np.argwhere(answered).tolist():  # alone: whether anything of it is left
                alone = np.full(SIZE, 255, np.uint8)
                alone[row, column] = 0
                kept += not size or bool((resize_mask(alone, size) == 0).any())
        assert (cost.clicks, cost.classes, cost.boundary) == (clicks, classes.tolist(), boundary)
        assert (cost.kept, cost.trained) == (kept, trained)
        assert cost.pixels == cost.void + sum(cost.classes) == sum(each.pixels for each in answers)
    assert [(cost.queries, cost.images, cost.new_images) for cost in ledger.rounds] == [(13, 2, 2), (12, 2, 1)]


def test_pool_is_that_of_the_truth_and_read_once(labelled: tuple, tmp_path: Path) -> None:
    dataset, store, _ = labelled
    pool = make_ledger(data(dataset, cache=tmp_path / "cache"), store, "square").pool
    labels = [dataset.label(index) for index in range(5)]
    assert pool is not None
    assert pool.boundary == sum(int(slow_boundary(label).sum()) for label in labels) > 0
    assert pool.classes == [sum(int((label == index).sum()) for label in labels) for index in range(3)]
    assert pool.void == sum(int((label == 255).sum()) for label in labels) > 0
    dataset.opened.clear()
    again = make_ledger(data(dataset, cache=tmp_path / "cache"), store, "square")
    assert again.pool == pool
    assert sorted(set(dataset.opened)) == [("label", 0), ("label", 1), ("label", 3)]  # those with a query, no more
    dataset.opened.clear()
    known = {cost.sha256: cost for cost in again.rounds}
    assert make_ledger(data(dataset, cache=tmp_path / "cache"), store, "square", known) == again
    assert not dataset.opened


def test_truth_that_nobody_may_read_is_not_read(labelled: tuple) -> None:
    dataset, store, _ = labelled
    dataset.closed.add("label")
    ledger = make_ledger(data(Unlabelled(dataset)), store, "square")
    assert ledger.pool is None
    assert [cost.boundary for cost in ledger.rounds] == [None, None]
    assert ledger.total("boundary") is None
    assert ledger.total("clicks") == sum(cost.clicks for cost in ledger.rounds) > 0


def test_workers_count_the_same(labelled: tuple) -> None:
    dataset, store, _ = labelled
    alone = make_ledger(data(dataset, (17, 20)), store, "square")
    assert make_ledger(data(dataset, (17, 20), num_workers=2), store, "square") == alone


def test_positions_past_a_byte_survive() -> None:
    rows, columns = resized_positions(70_000, 7), resized_positions(300, 150)
    assert np.abs(rows - (np.arange(7) + 0.5) * 10_000).max() <= 1
    assert (np.diff(columns) == 2).all()


def test_a_single_pixel_is_one_click_void_or_not() -> None:
    centres = np.array([[0, 0], [1, 1]], dtype=np.int32)
    boxes = np.concatenate([centres, np.ones_like(centres)], axis=1)
    scores = np.zeros(2, dtype=np.float32)
    assert count_clicks(Answers("a", centres, boxes, np.array([2, VOID], dtype=np.uint8), scores)) == 2


def test_boundary_of_any_picture() -> None:
    rng = np.random.default_rng(0)
    label = rng.choice(np.array([0, 1, 255], dtype=np.uint8), (9, 11))
    np.testing.assert_array_equal(on_boundary(label), slow_boundary(label))
    assert 0 < slow_boundary(label).mean() < 1


def test_a_run_leaves_its_ledger(tiny_run: TinyRun) -> None:
    ledger, store = read_ledger(tiny_run.folder / "ledger.json"), LabelStore.open(tiny_run.folder / "labels")
    assert [cost.sha256 for cost in ledger.rounds] == [entry.sha256 for entry in store.rounds]
    assert ledger.total("pixels") == store.pixels > 0
    assert ledger.region_type == tiny_run.loop.strategy.region_type.name
    assert make_ledger(tiny_run.data, store, ledger.region_type) == ledger


def test_only_complete_ledgers_are_read(labelled: tuple, tmp_path: Path) -> None:
    dataset, store, _ = labelled
    ledger = make_ledger(data(dataset), store, "square")
    ledger.write(tmp_path)
    assert read_ledger(tmp_path / "ledger.json") == ledger
    content = asdict(ledger)
    broken = [
        [],
        {**content, "more": 1},
        {**content, "classes": content["classes"][1:]},
        {**content, "region_type": "a\nb"},
        {**content, "images": -1},
        {**content, "pixels": 1.5},
        {**content, "colors": [[0, 0, 256]] * 3},
        {**content, "pool": {"classes": [1, 2, 3], "void": True, "boundary": 0}},
        {**content, "rounds": content["rounds"][::-1]},
        {**content, "rounds": [{**content["rounds"][0], "clicks": -1}]},
        {**content, "rounds": [{**content["rounds"][0], "sha256": "<script>"}]},
        {key: value for key, value in content.items() if key != "pool"},
    ]
    for number, each in enumerate(broken):
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(each))
        with pytest.raises(UserError, match=f"{number}.json: not a complete ledger"):
            read_ledger(path)


def test_shares_of_nothing(tmp_path: Path) -> None:
    ledger = Ledger(["a", "b"], [[0, 0, 0]] * 2, "square", 3, 90, None, [])
    assert ledger.class_pixels() == [0, 0]
    assert replace(ledger).total("pixels") == 0
