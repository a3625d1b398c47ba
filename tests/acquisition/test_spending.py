"""What budgets will spend, against formulas and counts by hand: too much, idle rounds, an exhausted pool."""

import math
import warnings
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.acquisition import (
    Budget,
    Pixel,
    RegionType,
    ScoreInputs,
    Square,
    Superpixel,
    WholeImage,
    budget_warnings,
    check_budget,
    get_strategy,
    round_selection,
)
from ripu_lightning.acquisition.spending import least_spending, unspent

POOL = [(100, 100)] * 3 + [(10, 10)]


@pytest.mark.parametrize(
    ("region_type", "budget", "expected"),
    [
        (Pixel(), Budget(pixels=7, rounds=3), 4 * 7),  # 2, 2 and 3
        (Pixel(), Budget(ratio=0.5, rounds=1), 15_050),
        (
            Square(1),
            Budget(ratio=0.01, rounds=2),
            3 * 2 * 6 * 9 + 2 * 9,
        ),  # 50 pixels are 6 squares, half a pixel is one
        (Square(1), Budget(pixels=100, per="pool", rounds=5), 5 * 27),
        (Square(2), Budget(ratio=0.1, per="pool", rounds=1), math.ceil(3010 / 25) * 25),
        (Superpixel(100), Budget(ratio=0.01, rounds=5), 3 * 5 * 100 + 5 * 1),  # of an image's mean superpixel
        (Superpixel(100), Budget(ratio=0.01, per="pool", rounds=1), 301),  # those of the smallest image hold 1 pixel
        (WholeImage(), Budget(ratio=0.5, per="pool", rounds=2), 2 * math.ceil(7525 / 100) * 100),
        (Square(1), Budget(clicks=5), None),
        (WholeImage(), Budget(images=2, per="pool", rounds=2), None),
        (Superpixel(9), Budget(regions=5), None),
    ],
)
def test_the_least_that_a_plan_spends(region_type: RegionType, budget: Budget, expected: float | None) -> None:
    found = least_spending(region_type, budget, POOL)
    assert found == (None if expected is None else pytest.approx(expected))


@given(st.integers(1, 3), st.integers(2, 60), st.integers(2, 60), st.integers(1, 6), st.integers(1, 999))
def test_squares_by_counting(radius: int, height: int, width: int, rounds: int, thousandths: int) -> None:
    """Queries are taken one by one until a round's amount is reached, in exact fractions."""
    cost, spent = (2 * radius + 1) ** 2, 0
    amount = Fraction(thousandths, 1000) * height * width / rounds
    for _ in range(rounds):
        reached = 0
        while reached < amount - Fraction(1, 10**9):
            reached += cost
        spent += reached
    found = least_spending(Square(radius), Budget(ratio=thousandths / 1000, rounds=rounds), [(height, width)])
    assert found is not None
    assert found - spent in (0, *(cost * extra for extra in range(1, rounds + 1)))  # amounts are rounded as published
    if (amount / cost).denominator > 1:
        assert found == spent


def test_selection_spends_what_is_planned() -> None:
    strategy, budget = get_strategy("ripu", radius=1), Budget(ratio=0.022, rounds=5)
    height, width = 32, 32
    taken = 0
    for number in range(1, 6):
        selection = round_selection(strategy, budget, number, height * width)
        inputs = ScoreInputs(torch.randn(1, 4, height, width), ["a"], number, 0)
        taken += sum(len(picks.positions) for picks in selection.add(0, inputs, torch.ones(height, width) > 0).values())
    assert taken * 9 == least_spending(strategy.region_type, budget, [(height, width)]) == 45


@pytest.mark.parametrize(
    ("region_type", "budget", "sizes", "words"),
    [
        (Square(1), Budget(ratio=0.022), [(32, 32)], ["asks for 2.2%", "square of 9 pixels in each image", "4.39%"]),
        (Superpixel(100), Budget(ratio=0.01), [(128, 256)], ["asks for 1%", "superpixel of 328 pixels", "cost 5%"]),
        (WholeImage(), Budget(ratio=0.01, per="pool", rounds=1), [(8, 8)] * 10, ["asks for 1%", "64 pixels cost 10%"]),
        (Pixel(), Budget(clicks=2), [(64, 64)], ["2 clicks over 5 rounds leave rounds 1, 2, 4 without a query"]),
        (Square(1), Budget(regions=2, rounds=3), [(64, 64)], ["2 regions over 3 rounds leave round 1 without"]),
        (WholeImage(), Budget(images=1, per="pool", rounds=2), [(8, 8)] * 3, ["1 images over 2 rounds", "round 1"]),
        (Superpixel(12), Budget(regions=30, rounds=3), [(128, 256)], ["30 queries", "about 12 superpixels"]),
    ],
)
def test_a_plan_that_departs_from_its_budget_is_told(
    region_type: RegionType, budget: Budget, sizes: list[tuple[int, int]], words: list[str]
) -> None:
    (line,) = budget_warnings(region_type, budget, sizes)
    assert all(word in line for word in words), line
    assert "choose" in line


def test_an_excess_of_a_tenth_is_tolerated() -> None:
    square = Square(1)
    assert budget_warnings(square, Budget(pixels=82, rounds=1), [(64, 64)]) == []  # 90 pixels, 9.8% more
    assert len(budget_warnings(square, Budget(pixels=81, rounds=1), [(64, 64)])) == 0
    assert len(budget_warnings(square, Budget(pixels=73, rounds=1), [(64, 64)])) == 1  # 81 pixels, 11% more


def test_rounds_whose_weight_is_zero_were_asked_for() -> None:
    assert budget_warnings(Pixel(), Budget(clicks=4, rounds=3, split=[0, 1, 1]), [(64, 64)]) == []


@pytest.mark.parametrize(
    ("strategy", "budget", "sizes"),
    [
        ("ripu_diverse", Budget(ratio=0.022), [(128, 256)] * 100),  # experiment=demo
        ("ripu_diverse", Budget(ratio=0.022), [(288, 384)] * 100),  # experiment=roads
        ("ripu", Budget(ratio=0.022), [(1024, 2048)] * 50),  # the paper's
        ("ripu", Budget(ratio=0.05), [(1024, 2048)] * 50),
        ("ripu_point", Budget(clicks=40), [(1024, 2048)] * 50),
        ("ripu_point", Budget(clicks=105), [(1024, 2048)] * 50),
        ("mada", Budget(images=5, per="pool"), [(128, 256)] * 100),
    ],
)
def test_usual_plans_are_silent(strategy: str, budget: Budget, sizes: list[tuple[int, int]]) -> None:
    assert budget_warnings(get_strategy(strategy).region_type, budget, sizes) == []


def test_before_training_it_is_a_warning() -> None:
    with pytest.warns(UserWarning, match=r"asks for 2.2% of the pixels"):
        check_budget(get_strategy("ripu", radius=1), Budget(ratio=0.022), [(32, 32)], classes=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_budget(get_strategy("ripu", radius=1), Budget(ratio=0.022), [(128, 256)], classes=4)


@pytest.mark.parametrize(
    ("region_type", "budget", "queries", "pixels", "line"),
    [
        (Superpixel(12), Budget(regions=30, rounds=3), 30, 99, "could not spend 10 of its 40 queries"),
        (Superpixel(12), Budget(regions=30, rounds=3), 40, 99, None),
        (Superpixel(12), Budget(ratio=0.5, rounds=1), 3, 500, "could not spend 300 of its 800 pixels"),
        (Superpixel(12), Budget(ratio=0.5, rounds=1), 3, 801, None),
        (Square(1), Budget(pixels=10, rounds=1), 7, 63, "could not spend 1 of its 8 queries"),
        (Square(1), Budget(pixels=10, rounds=1), 8, 60, None),  # some were clipped
        (Pixel(), Budget(pixels=10, per="pool", rounds=1), 0, 0, "could not spend 10 of its 10 queries"),
    ],
)
def test_an_exhausted_pool_is_told(
    region_type: RegionType, budget: Budget, queries: int, pixels: int, line: str | None
) -> None:
    found = unspent(region_type, budget, [(20, 20)] * 4, 1, queries, pixels)
    assert found is None if line is None else found is not None and line in found and "round 1" in found
