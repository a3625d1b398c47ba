"""Every strategy keeps the rules of the conformance kit, as published and with other region types and rules."""

from collections.abc import Callable

import pytest

from ripu_lightning.acquisition import (
    ClassBalanced,
    Greedy,
    KCentre,
    Pixel,
    Power,
    RegionType,
    Scheduled,
    SegmentBalanced,
    SelectionRule,
    Square,
    Strategy,
    Superpixel,
    TopRandom,
    WholeImage,
    get_strategy,
    list_strategies,
)
from ripu_lightning.testing import check_strategy

# A score of each kind: those that are missing differ from entropy or ripu in a formula alone.
PIXELWISE: dict[str, dict[str, int]] = {
    "random": {},
    "entropy": {},
    "ripu": {},
    "bald": {"samples": 3},
    "halo": {},
    "mulactseg": {},
}
REGION_TYPES: list[Callable[[], RegionType]] = [lambda: Pixel(exclusion=1), lambda: Square(2), Superpixel, WholeImage]
RULES: list[Callable[[], SelectionRule]] = [
    Greedy,
    TopRandom,
    ClassBalanced,
    lambda: KCentre(shortlist=2),
    Power,
    lambda: Scheduled(SegmentBalanced(shortlist=3), Greedy()),
]

# All would be 144; here each score meets each region type, and each region type each rule.
MIXED = [
    (name, region_type, RULES[(row + column) % len(RULES)])
    for row, name in enumerate(PIXELWISE)
    for column, region_type in enumerate(REGION_TYPES)
]


@pytest.mark.parametrize("name", list_strategies())
def test_as_published(name: str) -> None:
    check_strategy(lambda: get_strategy(name))


@pytest.mark.parametrize(
    ("name", "region_type", "selection_rule"),
    MIXED,
    ids=[f"{name}-{region_type().name}-{selection_rule().name}" for name, region_type, selection_rule in MIXED],
)
def test_mixed(name: str, region_type: Callable[[], RegionType], selection_rule: Callable[[], SelectionRule]) -> None:
    def make() -> Strategy:
        return get_strategy(name, region_type=region_type(), selection_rule=selection_rule(), **PIXELWISE[name])

    check_strategy(make)
