"""Budgets: exact sums, the published counts, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.acquisition import Budget


@given(clicks=st.integers(1, 200), rounds=st.integers(1, 20))
def test_clicks_sum_up_exactly_and_evenly(clicks: int, rounds: int) -> None:
    budget = Budget(clicks=clicks, rounds=rounds)
    picks = [budget.picks(number + 1, 64, 64, radius=0) for number in range(rounds)]
    assert sum(picks) == clicks
    assert max(picks) - min(picks) <= 1


@given(ratio=st.floats(0.001, 1), rounds=st.integers(1, 10), radius=st.integers(0, 5))
def test_ratio_is_spent_and_overspent_by_less_than_a_pick_a_round(ratio: float, rounds: int, radius: int) -> None:
    area = (2 * radius + 1) ** 2
    total = sum(Budget(ratio=ratio, rounds=rounds).picks(n + 1, 120, 200, radius) * area for n in range(rounds))
    assert 120 * 200 * ratio - 1e-6 <= total < 120 * 200 * ratio + rounds * area


@pytest.mark.parametrize(("clicks", "total"), [(40, 40), (105, 105)])
def test_published_point_counts(clicks: int, total: int) -> None:
    picks = [Budget(clicks=clicks).picks(number, 1024, 2048, radius=0) for number in range(1, 6)]
    assert picks == [total // 5] * 5


def test_published_region_count() -> None:
    assert 5 * Budget(ratio=0.022).picks(1, 1024, 2048, radius=1) == 5130
    assert Budget(ratio=0.022).picks(1, 1024, 2048, radius=9) == math.ceil(1024 * 2048 * 0.022 / 5 / 361)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"ratio": 0.0}, "budget.ratio"),
        ({"ratio": -0.1}, "budget.ratio"),
        ({"ratio": 1.5}, "budget.ratio"),
        ({"clicks": 0}, "budget.clicks"),
        ({"clicks": -3}, "budget.clicks"),
        ({"ratio": 0.1, "rounds": -1}, "budget.rounds"),
        ({"ratio": 0.1, "clicks": 4}, "either ratio"),
        ({}, "either ratio"),
    ],
)
def test_refused(options: dict, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        Budget(**options)


def test_more_clicks_than_pixels() -> None:
    with pytest.raises(ValueError, match=r"budget\.clicks"):
        Budget(clicks=101).picks(1, 10, 10, radius=0)
