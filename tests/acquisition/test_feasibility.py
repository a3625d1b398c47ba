"""Strategies and budgets that cannot work are refused before training, with the argument at fault."""

import warnings
from collections.abc import Callable

import pytest
from torch import Tensor

from ripu_lightning.acquisition import (
    Budget,
    Pixel,
    Scored,
    ScoreInputs,
    Strategy,
    Superpixel,
    WholeImage,
    check_budget,
    get_strategy,
    list_strategies,
)
from ripu_lightning.errors import InvalidArgument, UserError

SIZES = [(24, 32)] * 5


def per_class(inputs: ScoreInputs) -> Tensor:
    return inputs.logits


@pytest.mark.parametrize(
    ("make", "budget", "message"),
    [
        (lambda: get_strategy("ripu", radius=12), Budget(ratio=0.5, rounds=1), "Square: radius 12: .* at most 11"),
        (
            lambda: get_strategy("ripu_point", radius=12),
            Budget(clicks=3),
            "ripu_point: radius must be 0 to 11",
        ),
        (lambda: get_strategy("random"), Budget(clicks=500), "Budget: clicks .*more than an image of 24x32 holds"),
        (lambda: get_strategy("random", radius=0), Budget(clicks=769, rounds=1), "Budget: clicks .* 769 queries"),
        (lambda: Scored("flat", per_class, Pixel()), Budget(clicks=3), "strategy flat: expected scores"),
        (lambda: get_strategy("entropy", region_type=WholeImage()), Budget(clicks=3), "Budget: per must be 'pool'"),
        (lambda: get_strategy("mada"), Budget(images=6, per="pool"), "Budget: images must be at most 5, .* got 6"),
        (lambda: get_strategy("mada"), Budget(clicks=6, per="pool"), "Budget: clicks must be at most 5, .* got 6"),
        (lambda: get_strategy("entropy"), Budget(images=2, per="pool"), "Budget: images .* queries squares"),
        (lambda: get_strategy("pixelpick"), Budget(regions=2), "Budget: regions .* queries pixels"),
        (lambda: get_strategy("random"), Budget(clicks=2000, per="pool"), "Budget: clicks .*more than the pool holds"),
        (lambda: get_strategy("random"), Budget(pixels=3841, per="pool"), "Budget: pixels .*more than the pool holds"),
        (lambda: get_strategy("random"), Budget(pixels=769), "Budget: pixels .* 769 pixels, more than an image"),
        (lambda: get_strategy("mulactseg", region_type=Superpixel(999)), Budget(ratio=0.1), "Superpixel: segments"),
    ],
)
def test_refused(make: Callable[[], Strategy], budget: Budget, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_budget(make(), budget, SIZES, classes=4)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", list_strategies())
@pytest.mark.parametrize("per", ["image", "pool"])
def test_every_strategy_fits_a_large_image(name: str, per: str) -> None:
    strategy = get_strategy(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if per == "image" and strategy.region_type.name == "image":
            with pytest.raises(InvalidArgument, match="Budget: per"):
                check_budget(strategy, Budget(clicks=5), [(72, 80)], classes=4)
        else:
            check_budget(strategy, Budget(clicks=5, per=per), [(72, 80), (80, 96)] * 3, classes=4)


def test_a_rehearsal_leaves_the_strategy_unfitted() -> None:
    strategy = get_strategy("mada")
    check_budget(strategy, Budget(images=2, per="pool"), SIZES, classes=4)
    assert strategy.state_dict() == {}


def test_the_smallest_image_counts() -> None:
    with pytest.raises(UserError, match="an image of 8x8"):
        check_budget(get_strategy("entropy", radius=0), Budget(clicks=70), [*SIZES, (8, 8)], classes=4)


def test_an_exclusion_that_leaves_budget_unspent_is_a_warning() -> None:
    strategy = get_strategy("ripu_point", radius=6)
    with pytest.warns(UserWarning, match="200 queries in an image of 24x32.* 6 pixels .* at most 20"):
        check_budget(strategy, Budget(clicks=200, rounds=2), SIZES, classes=4)
