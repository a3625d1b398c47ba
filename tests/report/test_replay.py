"""Figures of a replay against loops over single pixels, and the files that hold them."""

import csv
import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ripu_lightning.annotation import Query
from ripu_lightning.data.statistics import on_boundary
from ripu_lightning.report.matplotlib_charts import draw
from ripu_lightning.report.replay.comparison_files import (
    Comparison,
    agreement_chart,
    class_chart,
    errors,
    print_comparison,
    write_comparison,
)
from ripu_lightning.report.replay.query_counts import agreement, count, figures_of
from ripu_lightning.report.replay.replay_callback import queried_pixels

CLASSES = 4
Maps = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def maps(seed: int) -> Maps:
    """Truth without class 3, predictions, what three strategies query, and the pixels without a label."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, (3, 4), dtype=np.uint8).repeat(3, axis=0).repeat(2, axis=1)
    truth[rng.random(truth.shape) < 0.15] = 255
    predicted = rng.integers(0, CLASSES, truth.shape, dtype=np.uint8)
    queried = rng.random((3, *truth.shape)) < np.array([0.5, 0.2, 0.1])[:, None, None]
    return truth, predicted, queried, rng.random(truth.shape) < 0.8


def slow_boundary(truth: np.ndarray, row: int, column: int) -> bool:
    around = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    inside = [truth[r, c] for r, c in around if 0 <= r < truth.shape[0] and 0 <= c < truth.shape[1]]
    return truth[row, column] != 255 and any(other not in (255, truth[row, column]) for other in inside)


def pixels_of(each: Maps, strategy: int | None) -> set[tuple[int, int]]:
    truth, _, queried, pool = each
    return {
        (row, column)
        for row, column in product(*map(range, truth.shape))
        if pool[row, column] and (strategy is None or queried[strategy, row, column])
    }


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_a_loop_over_pixels(seed: int) -> None:
    images = [maps(2 * seed), maps(2 * seed + 1)]
    counts = count(*images[0], CLASSES) + count(*images[1], CLASSES)
    found = figures_of(counts)

    def gathered(strategy: int | None) -> list[tuple[int, int, bool]]:
        """Truth, prediction and boundary of all pixels of a set."""
        return [
            (int(truth[place]), int(predicted[place]), slow_boundary(truth, *place))
            for truth, predicted, queried, pool in images
            for place in pixels_of((truth, predicted, queried, pool), strategy)
        ]

    pool = gathered(None)
    pool_named = [pixel for pixel in pool if pixel[0] != 255]
    pool_wrong = [pixel for pixel in pool_named if pixel[0] != pixel[1]]
    for row, strategy in enumerate([0, 1, 2, None]):
        ours = gathered(strategy)
        named = [pixel for pixel in ours if pixel[0] != 255]
        wrong = [pixel for pixel in named if pixel[0] != pixel[1]]
        by_class = [sum(pixel[0] == number for pixel in named) for number in range(CLASSES)]
        shares = [number / len(named) for number in by_class if number]
        each = found[row]
        assert each.pixels == len(ours)
        assert each.images == sum(bool(pixels_of(image, strategy)) for image in images)
        assert each.class_pixels == by_class
        assert each.share == pytest.approx(len(ours) / len(pool))
        assert each.precision == pytest.approx(len(wrong) / len(named))
        assert each.recall == pytest.approx(len(wrong) / len(pool_wrong))
        assert each.lift == pytest.approx(each.precision / (len(pool_wrong) / len(pool_named)))
        assert each.lift == pytest.approx(each.recall / (len(named) / len(pool_named)))
        assert each.void == pytest.approx(1 - len(named) / len(ours))
        assert each.boundary == pytest.approx(sum(pixel[2] for pixel in named) / len(named))
        assert each.classes == pytest.approx(sum(map(bool, by_class)) / 3)  # the pool lacks one of the four
        assert each.balance == pytest.approx(-sum(share * math.log(share) for share in shares) / math.log(3))
    for one, other in product(range(3), repeat=2):
        sets = [{(n, *place) for n, image in enumerate(images) for place in pixels_of(image, s)} for s in (one, other)]
        expected = len(sets[0] & sets[1]) / len(sets[0] | sets[1])
        assert agreement(counts)[one, other] == pytest.approx(expected)


def test_nothing_queried_and_nothing_wrong_have_no_shares() -> None:
    truth, _, queried, pool = maps(0)
    queried[1:] = False
    counts = count(truth, truth.copy(), queried, pool, CLASSES)
    some, none, _, whole = figures_of(counts)
    assert some.precision == whole.precision == 0
    assert math.isnan(some.recall)
    assert math.isnan(some.lift)
    assert (none.pixels, none.images, none.share, none.classes) == (0, 0, 0, 0)
    assert all(math.isnan(value) for value in (none.precision, none.void, none.boundary, none.balance))
    found = agreement(counts)
    assert (found[0, 0], found[0, 1]) == (1, 0)
    assert math.isnan(found[1, 2])


def test_boundaries_are_where_a_neighbour_has_another_class() -> None:
    truth = maps(3)[0]
    expected = [[slow_boundary(truth, row, column) for column in range(8)] for row in range(9)]
    assert on_boundary(truth).tolist() == expected
    assert 0 < on_boundary(truth).sum() < truth.size


@pytest.mark.parametrize("whole", [True, False])
def test_queried_pixels_of_boxes_and_of_parts_of_them(whole: bool) -> None:
    boxes = np.array([[0, 1, 2, 3], [3, 0, 1, 2]], dtype=np.int32)
    inside = None if whole else np.array([1, 0, 1, 0, 1, 1, 0, 1], dtype=np.bool_)
    query = Query(0, "a", boxes[:, :2], boxes, inside, np.zeros(2, dtype=np.float32))
    expected = np.zeros((4, 5), dtype=np.bool_)
    expected[0:2, 1:4] = True if whole else [[1, 0, 1], [0, 1, 1]]
    expected[3, 0:2] = True if whole else [0, 1]
    assert np.array_equal(queried_pixels(query, (4, 5)), expected)
    assert not queried_pixels(None, (4, 5)).any()


@pytest.fixture
def comparison() -> Comparison:
    counts = count(*maps(1), CLASSES)
    seconds = {name: {"reading": 0.1, "network": 0.2, "scoring": 0.3} for name in ("ripu", "[b]", "random")}
    return Comparison.of(counts, seconds, ["road", "[sky]", "tree", "car"], {"checkpoint": "a.ckpt"})


def test_files_hold_the_figures(comparison: Comparison, tmp_path: Path) -> None:
    write_comparison(comparison, tmp_path / "out")
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert list(content["strategies"]) == ["ripu", "[b]", "random"]
    assert content["checkpoint"] == "a.ckpt"
    assert content["pool"] == comparison.pool._asdict()
    with (tmp_path / "out" / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["strategy"] for row in rows] == ["ripu", "[b]", "random", "(pool)"]
    for row, (name, each) in zip(rows, comparison.strategies.items(), strict=False):
        assert content["strategies"][name] == {**each._asdict(), "seconds": comparison.seconds[name]}
        assert float(row["recall"]) == each.recall
        assert [int(row[f"pixels/{key}"]) for key in comparison.classes] == each.class_pixels
        assert float(row["agreement/ripu"]) == content["agreement"][0][list(content["strategies"]).index(name)]
    assert rows[-1]["agreement/ripu"] == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "agreement.png",
        "classes.png",
        "compare.csv",
        "compare.json",
    ]


def test_tables_fit_into_a_terminal_and_show_names_as_they_are(comparison: Comparison) -> None:
    console = Console(width=80, record=True, force_terminal=True)
    print_comparison(comparison, console)
    printed = console.export_text()
    assert max(map(len, printed.splitlines())) <= 80
    assert "[b]" in printed
    assert f"{100 * comparison.strategies['ripu'].recall:.2f}" in printed
    assert f"{100 * comparison.pool.precision:.1f} % of the pool's pixels wrong" in printed


def test_charts_show_their_values(comparison: Comparison) -> None:
    heat = draw(agreement_chart(["one", "other"], [[1.0, math.nan], [0.9, 1.0]])).axes[0]
    assert [text.get_text() for text in heat.texts] == ["100", "–", "90", "100"]
    np.testing.assert_array_equal(heat.images[0].get_array().filled(math.nan), [[1.0, math.nan], [0.9, 1.0]])
    pixels = {name: each._replace(class_pixels=[9, 1, 0, 10]) for name, each in comparison.strategies.items()}
    bars = draw(class_chart(pixels, comparison.classes)).axes[0].containers
    assert [[bar.get_height() for bar in group] for group in bars] == [[45.0, 5.0, 0.0, 50.0]] * 3


def test_errors_are_red_void_is_black() -> None:
    truth, predicted = np.array([[0, 1, 255]], dtype=np.uint8), np.array([[0, 2, 1]], dtype=np.uint8)
    right, wrong, void = errors(truth, predicted)[0].astype(int)
    assert right.min() == right.max() > 200
    assert wrong[0] > 2 * wrong[1:].max()
    assert void.tolist() == [0, 0, 0]
