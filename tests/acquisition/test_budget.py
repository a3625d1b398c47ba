"""Budgets: exact sums, the published counts, and what is refused."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ripu_lightning.acquisition import Budget
from ripu_lightning.errors import UserError

AMOUNTS = ("pixels", "clicks", "regions", "images")
WEIGHTS = st.lists(st.integers(0, 10**6).map(lambda cents: cents / 100), min_size=1, max_size=12).filter(any)
SPLITS = st.one_of(
    st.tuples(st.just("even"), st.integers(1, 20)),
    st.tuples(st.just("geometric"), st.integers(1, 20)),
    WEIGHTS.map(lambda weights: (weights, len(weights))),
)


def test_a_bound_on_images_needs_a_budget_of_the_pool() -> None:
    assert Budget(clicks=9, per="pool", most=2).amount(1, 100) == Budget(clicks=9, per="pool").amount(1, 100)
    with pytest.raises(UserError, match=r"Budget: most must be a number >= 1, got 0.5"):
        Budget(clicks=9, per="pool", most=0.5)
    with pytest.raises(UserError, match=r"Budget: most bounds the images of a budget of the pool; set per='pool' too"):
        Budget(clicks=9, most=2)


def amounts(budget: Budget, pixels: int = 64 * 64) -> list[float]:
    return [budget.amount(number, pixels) for number in range(1, budget.rounds + 1)]


def shares(split: str | list[float], rounds: int) -> list[float]:
    """What each round has of the whole, said once more."""
    weights = {"even": [1.0] * rounds, "geometric": [2.0**number for number in range(rounds)]}
    listed = weights[split] if isinstance(split, str) else split
    return [weight / math.fsum(listed) for weight in listed]


@given(
    unit=st.sampled_from(AMOUNTS), total=st.integers(1, 10**12), split=SPLITS, per=st.sampled_from(["image", "pool"])
)
@example(unit="pixels", total=59_567_601, split=([0.1, 0.07, 0.18, 0.44], 4), per="pool")
def test_numbers_sum_up_exactly(unit: str, total: int, split: tuple, per: str) -> None:
    spent = amounts(Budget(**{unit: total}, per=per, rounds=split[1], split=split[0]))
    assert sum(spent) == total
    assert all(isinstance(amount, int) and amount >= 0 for amount in spent)


@given(unit=st.sampled_from(AMOUNTS), total=st.integers(1, 10**6), split=SPLITS)
def test_numbers_follow_the_shares_to_less_than_one(unit: str, total: int, split: tuple) -> None:
    spent = amounts(Budget(**{unit: total}, rounds=split[1], split=split[0]))
    for amount, share in zip(spent, shares(*split), strict=True):
        assert abs(amount - total * share) < 1 + 1e-6


@given(clicks=st.integers(1, 200), rounds=st.integers(1, 20))
def test_even_numbers_differ_by_one_at_most(clicks: int, rounds: int) -> None:
    spent = amounts(Budget(clicks=clicks, rounds=rounds))
    assert max(spent) - min(spent) <= 1


@given(each=st.integers(1, 10_000), rounds=st.integers(1, 20))
def test_what_divides_evenly_is_the_same_in_all_rounds(each: int, rounds: int) -> None:
    assert amounts(Budget(clicks=each * rounds, rounds=rounds)) == [each] * rounds


@given(rounds=st.integers(1, 12), first=st.integers(1, 50))
def test_geometric_doubles(rounds: int, first: int) -> None:
    total = first * (2**rounds - 1)
    spent = amounts(Budget(images=total, per="pool", rounds=rounds, split="geometric"))
    assert spent == [first * 2**number for number in range(rounds)]


@given(ratio=st.floats(0.001, 1), split=SPLITS, pixels=st.integers(1, 10**9))
def test_a_ratio_is_split_by_the_shares(ratio: float, split: tuple, pixels: int) -> None:
    spent = amounts(Budget(ratio=ratio, rounds=split[1], split=split[0]), pixels)
    assert math.isclose(sum(spent), pixels * ratio, rel_tol=1e-9)
    for amount, share in zip(spent, shares(*split), strict=True):
        assert math.isclose(amount, pixels * ratio * share, rel_tol=1e-9)


@given(ratio=st.floats(0.001, 1), rounds=st.integers(1, 10), radius=st.integers(0, 5))
def test_ratio_is_spent_and_overspent_by_less_than_a_pick_a_round(ratio: float, rounds: int, radius: int) -> None:
    area = (2 * radius + 1) ** 2
    picks = [math.ceil(amount / area) for amount in amounts(Budget(ratio=ratio, rounds=rounds), 120 * 200)]
    assert 120 * 200 * ratio - 1e-6 <= sum(picks) * area < 120 * 200 * ratio + rounds * area


@pytest.mark.parametrize("total", [40, 105])
def test_published_point_counts(total: int) -> None:
    assert amounts(Budget(clicks=total), 1024 * 2048) == [total // 5] * 5


@pytest.mark.parametrize(
    ("height", "width", "ratio", "radius"), [(1024, 2048, 0.022, 1), (1024, 2048, 0.022, 9), (640, 1280, 0.05, 1)]
)
def test_published_region_counts(height: int, width: int, ratio: float, radius: int) -> None:
    area = (2 * radius + 1) ** 2
    published = math.ceil(height * width * ratio / 5 / area)
    assert [math.ceil(amount / area) for amount in amounts(Budget(ratio=ratio), height * width)] == [published] * 5


def test_published_region_count_of_cityscapes() -> None:
    assert sum(math.ceil(amount / 9) for amount in amounts(Budget(ratio=0.022), 1024 * 2048)) == 5130


@pytest.mark.parametrize(
    ("unit", "value", "counts_pixels"),
    [("ratio", 0.1, True), ("pixels", 9, True), ("clicks", 9, False), ("regions", 9, False), ("images", 9, False)],
)
def test_units(unit: str, value: float, counts_pixels: bool) -> None:
    budget = Budget(**{unit: value})
    assert (budget.unit, budget.counts_pixels) == (unit, counts_pixels)


def test_no_rounds_label_nothing() -> None:
    assert (Budget(rounds=0).unit, Budget(rounds=0).counts_pixels) == (None, False)
    assert Budget(ratio=0.1, rounds=0).unit == "ratio"


@pytest.mark.parametrize("number", [-1, 0, 6])
def test_rounds_outside_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=rf"round in 1\.\.5, got {number}"):
        Budget(clicks=40).amount(number, 100)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.0}, "Budget: ratio .*got 0"),
        ({"ratio": -0.1}, "Budget: ratio "),
        ({"ratio": 1.5}, "Budget: ratio "),
        ({"ratio": math.nan}, "Budget: ratio "),
        ({"pixels": 0}, "Budget: pixels "),
        ({"clicks": 0}, "Budget: clicks "),
        ({"clicks": -3}, "Budget: clicks .*got -3"),
        ({"regions": 0}, "Budget: regions "),
        ({"images": -1}, "Budget: images "),
        ({"ratio": 0.1, "rounds": -1}, "Budget: rounds "),
        ({"ratio": 0.1, "clicks": 4}, "exactly one of .* got ratio, clicks"),
        ({"images": 2, "pixels": 4, "rounds": 0}, "exactly one of"),
        ({}, "exactly one of .* got none"),
        ({"clicks": 4, "per": "batch"}, "Budget: per .*'batch'"),
        ({"clicks": 4, "split": "odd"}, "Budget: split .*'odd'"),
        ({"clicks": 4, "rounds": 3, "split": [1, 2]}, "Budget: split must be 3 weights"),
        ({"clicks": 4, "rounds": 2, "split": [2, -1]}, "Budget: split "),
        ({"clicks": 4, "rounds": 2, "split": [0, 0]}, "Budget: split "),
        ({"clicks": 4, "rounds": 2, "split": [1, math.nan]}, "Budget: split "),
        ({"clicks": 4, "rounds": 2, "split": [1, math.inf]}, "Budget: split "),
    ],
)
def test_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Budget(**options)
