"""Means, intervals, areas, crossings and overlaps against scipy's and numpy's own, and against loops."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from labels.store_samples import CLASSES, IMAGES, commit, draw_answers, writer
from ripu_lightning.labels import LabelStore
from ripu_lightning.report.page.seed_statistics import (
    area_under,
    first_reached,
    kept_from,
    mean_of,
    overlaps,
    paired_difference,
)

CURVES = st.lists(st.tuples(st.floats(0.01, 0.2), st.floats(0, 1)), min_size=2, max_size=8)


def curve_of(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Steps and heights as ascending shares, from 0, and heights."""
    steps, heights = zip(*points, strict=True)
    return [0.0, *np.cumsum(steps[1:]).tolist()], list(heights)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_interval_is_scipys(values: list[float]) -> None:
    found = mean_of(values)
    error = stats.sem(values)
    low = high = found.value
    if error:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=error)
    assert found.value - found.half == pytest.approx(low, abs=1e-12)
    assert found.value + found.half == pytest.approx(high, abs=1e-12)
    assert found.seeds == len(values)


def test_one_value_has_no_interval_and_distinguishes_nothing() -> None:
    assert mean_of([0.3]) == (0.3, None, 1)
    assert mean_of([0.3]).holds_zero
    with pytest.raises(ValueError, match="one value or more"):
        mean_of([])


def test_intervals_of_three_by_hand() -> None:
    # t(2) at 97.5% is 4.3027; the standard deviation of 1, 2, 3 is 1.
    assert mean_of([1.0, 2.0, 3.0]).half == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert not mean_of([5.0, 6.0, 7.0]).holds_zero
    assert mean_of([-1.0, 0.5, 1.0]).holds_zero


def test_differences_are_paired_by_seed() -> None:
    first, second = {1: 0.5, 2: 0.9, 4: 0.1}, {2: 0.7, 1: 0.4, 3: 0.0}
    assert paired_difference(first, second) == mean_of([0.5 - 0.4, 0.9 - 0.7])
    assert paired_difference(first, {3: 1.0}) is None
    # What all seeds share drops out: the pairs distinguish what the means do not.
    seeds = {seed: seed / 10 for seed in range(1, 6)}
    better = {seed: value + 0.01 + seed / 1000 for seed, value in seeds.items()}
    assert not paired_difference(better, seeds).holds_zero
    assert mean_of(list(seeds.values())).half > 0.1


@given(CURVES, st.floats(0.1, 1))
def test_area_equals_a_fine_sum(points: list[tuple[float, float]], part: float) -> None:
    shares, values = curve_of(points)
    stop = shares[-1] * part
    middles = (np.arange(20_000) + 0.5) / 20_000 * stop
    assert area_under(shares, values, 0.0, stop) == pytest.approx(np.interp(middles, shares, values).mean(), abs=1e-3)


def test_area_is_never_extrapolated() -> None:
    assert area_under([0.0, 0.1], [0.2, 0.4], 0.0, 0.1) == pytest.approx(0.3)
    assert area_under([0.0, 0.1], [0.2, 0.4], 0.0, 0.11) is None
    assert area_under([0.05, 0.1], [0.2, 0.4], 0.0, 0.1) is None
    assert area_under([0.0], [0.2], 0.0, 0.0) is None


@given(CURVES, st.floats(0, 1))
def test_first_crossing_equals_a_search_in_small_steps(points: list[tuple[float, float]], wanted: float) -> None:
    shares, values = curve_of(points)
    found = first_reached(shares, values, wanted)
    if max(values) < wanted:
        assert found is None
        return
    assert found is not None
    if found == 0:
        assert values[0] >= wanted
        return
    assert np.interp(found, shares, values) == pytest.approx(wanted, abs=1e-9)
    assert (np.interp(np.linspace(0, found, 3000, endpoint=False), shares, values) < wanted + 1e-9).all()


@given(CURVES, st.floats(0, 1))
def test_a_value_is_kept_from_there_on_and_not_just_before(points: list[tuple[float, float]], wanted: float) -> None:
    shares, values = curve_of(points)
    found = kept_from(shares, values, wanted)
    if values[-1] < wanted:
        assert found is None
        return
    assert found is not None
    assert (np.interp(np.linspace(found, shares[-1], 3000), shares, values) >= wanted - 1e-9).all()
    if found > 0:
        assert np.interp(found, shares, values) == pytest.approx(wanted, abs=1e-9)
        last = max(index for index, value in enumerate(values) if value < wanted)
        assert shares[last] <= found <= shares[last + 1]


def test_overlap_equals_sets_of_pixels(tmp_path: Path) -> None:
    stores, queried = [], []
    for number in range(3):
        with writer(tmp_path / str(number)) as store:
            commit(store, number)
            commit(store, 10 + number % 2)  # the second rounds of the first and the last are the same
            stores.append(store)
        pixels = {(image, *place) for image in IMAGES for place in np.argwhere(store.query_round(image) > 0).tolist()}
        queried.append(pixels)
    found = overlaps(stores)
    for i, j in np.ndindex(3, 3):
        assert found[i, j] == pytest.approx(len(queried[i] & queried[j]) / len(queried[i] | queried[j]))
    assert 0 < found[0, 1] < found[0, 2] < 1


def test_images_of_two_sizes_have_no_overlap(tmp_path: Path) -> None:
    """As of two copies of the data: the names are the same, the pixels are not."""
    image = next(iter(IMAGES))
    with writer(tmp_path / "a") as first, writer(tmp_path / "b") as second:
        commit(first, 1)
        commit(second, 2)
        other = LabelStore.create_or_open(tmp_path / "c", classes=CLASSES, images={image: (20, 20)})
        with other as larger:
            answers = draw_answers(np.random.default_rng(3), image, (20, 20), 5)
            larger.commit([answers], strategy="s", annotator="truth", exclusion=0)
            found = overlaps([first, second, larger])
    assert np.isnan(found[:2, 2]).all()
    assert np.isnan(found[2, :2]).all()
    assert 0 < found[0, 1] < found[2, 2] == 1


def test_overlap_of_nothing_is_not_a_number(tmp_path: Path) -> None:
    with writer(tmp_path / "a") as empty, writer(tmp_path / "b") as full:
        commit(full, 1)
        found = overlaps([empty, full])
    assert np.isnan(found[0, 0])
    assert (found[0, 1], found[1, 0], found[1, 1]) == (0, 0, 1)
