"""Candidates: ranks, what an amount affords, and parts joined in the order of the pool."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.acquisition import Candidates
from ripu_lightning.acquisition.candidates import join

COSTS = st.lists(st.integers(1, 40), max_size=30)


def candidates(images: list[int], seed: int = 0, described: bool = False) -> Candidates:
    """A row for each of ``images``, with few different scores, so many ties."""
    generator = torch.Generator().manual_seed(seed)
    count = len(images)
    return Candidates(
        images=torch.tensor(images, dtype=torch.int32),
        positions=torch.randint(1, 1000, (count,), generator=generator, dtype=torch.int32),
        scores=torch.randint(1, 4, (count,), generator=generator).float(),
        costs=torch.randint(1, 9, (count,), generator=generator).float(),
        classes=torch.randint(0, 5, (count,), generator=generator).to(torch.int16) if described else None,
        features=torch.randn((count, 3), generator=generator) if described else None,
        queried=torch.randn((2, 3), generator=generator) if described else None,
    )


def costing(costs: list[int]) -> Candidates:
    count = len(costs)
    whole = torch.zeros(count, dtype=torch.int32)
    return Candidates(whole, whole, torch.rand(count), torch.tensor(costs, dtype=torch.float32))


def fields_of(rows: Candidates) -> list[list]:
    """All fields but ``queried``, as lists."""
    named = rows.images, rows.positions, rows.scores, rows.costs, rows.classes, rows.features
    return [[] if column is None else column.tolist() for column in named]


def known(part: Candidates) -> list[list[float]]:
    assert part.queried is not None
    return part.queried.tolist()


def affordable(costs: list[int], amount: float) -> int:
    """One by one until the amount is reached."""
    spent = count = 0
    while count < len(costs) and spent < amount:
        spent += costs[count]
        count += 1
    return count


@given(costs=COSTS, amount=st.integers(0, 300))
def test_the_last_pick_reaches_the_amount_and_none_follows(costs: list[int], amount: int) -> None:
    order = torch.arange(len(costs)).flip(0)
    assert costing(costs).affordable(order, amount).tolist() == order[: affordable(costs[::-1], amount)].tolist()


@given(cost=st.integers(1, 40), count=st.integers(0, 30), amount=st.integers(0, 300))
def test_equal_costs_are_counted_as_the_others(cost: int, count: int, amount: int) -> None:
    order = torch.arange(count)
    assert len(costing([cost] * count).affordable(order, amount)) == affordable([cost] * count, amount)


def test_a_part_of_an_order_is_afforded_by_its_own_costs() -> None:
    rows = costing([1, 50, 3, 4])
    assert rows.affordable(torch.tensor([3, 2]), 5).tolist() == [3, 2]
    assert rows.affordable(torch.tensor([3, 2, 1]), 4).tolist() == [3]
    assert rows.affordable(torch.tensor([1, 0]), 50.5).tolist() == [1, 0]


@given(seed=st.integers(0, 1000), count=st.integers(0, 40))
def test_ranked_is_best_first_and_equals_keep_their_order(seed: int, count: int) -> None:
    rows = candidates([1] * count, seed)
    scores = rows.scores.tolist()
    assert rows.ranked().tolist() == sorted(range(count), key=lambda row: -scores[row])


@pytest.mark.parametrize("described", [False, True])
def test_rows_are_taken_in_their_order_from_all_fields(described: bool) -> None:
    rows = candidates([0, 0, 1, 4, 4], described=described)
    wanted = [4, 0, 2]
    picked = rows.rows(torch.tensor(wanted))
    assert len(picked) == 3
    assert fields_of(picked) == [[column[row] for row in wanted] if column else [] for column in fields_of(rows)]
    assert picked.queried is rows.queried


@given(order=st.permutations(range(4)), seed=st.integers(0, 100))
def test_joined_in_the_order_of_the_pool_whoever_scored_what(order: list[int], seed: int) -> None:
    whole = candidates([0, 0, 0, 2, 3, 3, 7], seed, described=True)
    shards = [[0, 1, 2], [3], [4, 5], [6]]
    parts = [whole.rows(torch.tensor(shard)) for shard in shards]
    assert fields_of(join([parts[number] for number in order])) == fields_of(whole)


def test_queried_features_are_all_kept() -> None:
    parts = [candidates([image] * image, seed=image, described=True) for image in (0, 1, 2)]
    fresh = replace(candidates([3], seed=3, described=True), queried=None)
    queried = join([*parts, fresh]).queried
    assert queried is not None
    assert queried.tolist() == [row for part in parts for row in known(part)]


def test_columns_that_no_part_has_stay_away() -> None:
    joined = join([candidates([0, 0]), candidates([1])])
    assert (joined.classes, joined.features, joined.queried) == (None, None, None)


def test_parts_without_rows_join_too() -> None:
    assert fields_of(join([candidates([]), candidates([1, 1]), candidates([])])) == fields_of(candidates([1, 1]))
    assert len(join([candidates([])])) == 0


def test_no_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        join([])
