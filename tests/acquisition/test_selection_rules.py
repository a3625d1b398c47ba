"""Selection rules against plain loops: how many candidates they need, the order of selection, and its costs."""

import math
from collections import Counter
from dataclasses import replace
from itertools import groupby, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.acquisition import (
    Candidates,
    ClassBalanced,
    Greedy,
    KCentre,
    Power,
    Scheduled,
    SegmentBalanced,
    SelectionRule,
    TopRandom,
)
from ripu_lightning.acquisition.region_types import Units
from ripu_lightning.acquisition.selection_rules import round_robin
from ripu_lightning.errors import UserError

SEEDS = st.integers(0, 10_000)


def candidates(seed: int, count: int, dearest: int = 1, classes: int = 4) -> Candidates:
    """Rows with few different scores; features on a small grid, so ties of distances too."""
    generator = torch.Generator().manual_seed(seed)
    return Candidates(
        images=torch.zeros(count, dtype=torch.int32),
        positions=torch.arange(count, dtype=torch.int32),
        scores=torch.randint(1, 6, (count,), generator=generator).float(),
        costs=torch.randint(1, dearest + 1, (count,), generator=generator).float(),
        classes=torch.randint(0, classes, (count,), generator=generator).to(torch.int16),
        features=torch.randint(1, 5, (count, 2), generator=generator).float(),
        segments=torch.randint(0, classes, (count,), generator=generator),
    )


def units(seed: int, count: int, share: float) -> Units:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 9, (count,), generator=generator).float()
    return Units(values, torch.rand(count, generator=generator) < share)


def best_first(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=lambda row: -scores[row])


def affordable(order: list[int], costs: list[float], amount: float) -> list[int]:
    spent, found = 0.0, []
    for row in order:
        if spent >= amount:
            break
        found.append(row)
        spent += costs[row]
    return found


def turns(rows: Candidates, weights: dict[int, int]) -> list[int]:
    """Each class in turn gives its next best ones."""
    assert rows.classes is not None
    classes = rows.classes.tolist()
    queues = {
        name: [row for row in best_first(rows.scores.tolist()) if classes[row] == name] for name in sorted(set(classes))
    }
    order: list[int] = []
    while any(queues.values()):
        for name, queue in queues.items():
            for _ in range(min(weights.get(name, 1), len(queue))):
                order.append(queue.pop(0))
    return order


def farthest_first(points: list[list[float]], count: int, known: list[list[float]]) -> list[int]:
    """The point whose nearest known or picked one is farthest, the first of equals; with nothing known the first."""
    picks: list[int] = []
    for _ in range(min(count, len(points))):
        centres = known + [points[pick] for pick in picks]
        reach = {
            row: min((math.dist(point, centre) for centre in centres), default=0.0)
            for row, point in enumerate(points)
            if row not in picks
        }
        picks.append(max(reach, key=lambda row: (reach[row], -row)))
    return picks


@settings(max_examples=60)
@given(seed=SEEDS, count=st.integers(0, 30), dearest=st.sampled_from([1, 7]), amount=st.integers(0, 60))
def test_greedy_buys_the_best(seed: int, count: int, dearest: int, amount: int) -> None:
    rows = candidates(seed, count, dearest)
    expected = affordable(best_first(rows.scores.tolist()), rows.costs.tolist(), amount)
    for selection_rule in (Greedy(), TopRandom()):
        assert selection_rule.order(rows, amount).tolist() == expected


@settings(max_examples=60)
@given(seed=SEEDS, count=st.integers(1, 60), share=st.sampled_from([0.01, 0.25, 1.0]), free=st.sampled_from([0.5, 1.0]))
def test_top_random_draws_among_the_best_then_goes_best_first(seed: int, count: int, share: float, free: float) -> None:
    given_units = units(seed, count, free)
    before = given_units.values.clone()
    prepared = TopRandom(share).prepare(given_units, seed)
    assert torch.equal(given_units.values, before)
    assert torch.equal(prepared.free, given_units.free)
    ranked = [row for row in best_first(before.tolist()) if given_units.free[row]]
    values = prepared.values.tolist()
    order = sorted(ranked, key=lambda row: -values[row])
    best = max(int(count * share), 1)
    assert set(order[:best]) == set(ranked[:best])
    assert order[best:] == ranked[best:]


def test_top_random_is_seeded_and_spreads() -> None:
    given_units = units(1, 4000, 1.0)
    torch.manual_seed(1)
    first = TopRandom(0.5).prepare(given_units, seed=3).values
    torch.manual_seed(2)
    assert torch.equal(TopRandom(0.5).prepare(given_units, seed=3).values, first)
    other = TopRandom(0.5).prepare(given_units, seed=4).values
    assert not torch.equal(other, first)
    # Of the best half, each draw prefers another half: two draws share about a half of that.
    preferred = [set(values.topk(1000).indices.tolist()) for values in (first, other)]
    assert 420 < len(preferred[0] & preferred[1]) < 580


def test_top_random_draws_each_of_the_best_and_no_other() -> None:
    values = torch.arange(1.0, 21.0)
    given_units = Units(values, values <= 16)  # a quarter of all 20: the best 5 of the free
    firsts = set()
    for seed in range(200):
        prepared = TopRandom(0.25).prepare(given_units, seed)
        firsts.add(int(prepared.values.masked_fill(~prepared.free, -torch.inf).argmax()))
    assert firsts == {11, 12, 13, 14, 15}


def test_top_random_draws_from_the_free_alone() -> None:
    none = Units(torch.rand(9), torch.zeros(9, dtype=torch.bool))
    assert not TopRandom().prepare(none, 0).free.any()
    one = Units(torch.arange(1.0, 10.0), torch.arange(9) == 2)
    assert TopRandom(0.3).prepare(one, 0).values[2] > 0


def test_power_draws_without_replacement_in_proportion_to_the_powers() -> None:
    scores, beta, draws = [1.0, 2.0, 3.0], 1.5, 20_000
    # Many disjoint units of one call instead of many calls: each triple is one draw of an order.
    given_units = Units(torch.tensor(scores).repeat(draws), torch.ones(3 * draws, dtype=torch.bool))
    orders = Power(beta).prepare(given_units, seed=5).values.reshape(draws, 3).argsort(dim=1, descending=True)
    weights = [score**beta for score in scores]
    for first, second in permutations(range(3), 2):
        rest = sum(weights) - weights[first]
        expected = weights[first] / sum(weights) * weights[second] / rest
        found = float(((orders[:, 0] == first) & (orders[:, 1] == second)).double().mean())
        assert abs(found - expected) < 5 * math.sqrt(expected * (1 - expected) / draws)


@given(seed=SEEDS, count=st.integers(1, 40), free=st.sampled_from([0.3, 1.0]))
def test_power_goes_best_first_at_a_high_beta_and_leaves_zeros_to_the_end(seed: int, count: int, free: float) -> None:
    given_units = units(seed, count, free)
    values = given_units.values - 3  # some are 0 or less
    prepared = Power(beta=1000).prepare(Units(values, given_units.free), seed)
    assert bool(torch.isfinite(prepared.values).all())
    rows = given_units.free.nonzero()[:, 0].tolist()
    order = sorted(rows, key=lambda row: -float(prepared.values[row]))
    assert values[order].clamp(min=0).tolist() == sorted(values[rows].clamp(min=0).tolist(), reverse=True)


def test_power_is_seeded_and_keeps_the_free_units() -> None:
    given_units = units(1, 500, 0.7)
    torch.manual_seed(1)
    first = Power().prepare(given_units, seed=3)
    torch.manual_seed(2)
    assert torch.equal(Power().prepare(given_units, seed=3).values, first.values)
    assert not torch.equal(Power().prepare(given_units, seed=4).values, first.values)
    assert torch.equal(first.free, given_units.free)


@settings(max_examples=60)
@given(
    seed=SEEDS,
    count=st.integers(0, 30),
    dearest=st.sampled_from([1, 5]),
    amount=st.integers(0, 40),
    most=st.integers(1, 3),
    shortlist=st.sampled_from([None, 1, 3]),
    images=st.integers(1, 2),
)
def test_a_segment_gets_its_most_before_any_gets_more(
    seed: int, count: int, dearest: int, amount: int, most: int, shortlist: int | None, images: int
) -> None:
    rows = replace(candidates(seed, count, dearest), images=(torch.arange(count) * images // max(count, 1)).int())
    assert rows.segments is not None
    costs, scores = rows.costs.tolist(), rows.scores.tolist()
    left = best_first(scores)[: None if shortlist is None else shortlist * amount]
    wanted = len(affordable(sorted(left, key=lambda row: costs[row]), costs, amount))
    left = left[: None if shortlist is None else shortlist * wanted]
    order: list[int] = []
    while left:  # a turn: the best of all that their segment may still give
        given_by: Counter[tuple[int, int]] = Counter()
        for row in list(left):
            owner = (int(rows.images[row]), int(rows.segments[row]))
            if given_by[owner] < most:
                given_by[owner] += 1
                order.append(row)
                left.remove(row)
    found = SegmentBalanced(most, shortlist).order(rows, amount).tolist()
    assert found == affordable(order, costs, amount)


def test_a_schedule_changes_the_rule_after_its_rounds() -> None:
    first, then = TopRandom(1.0), KCentre(2)
    rule = Scheduled(first, then, rounds=2)
    assert [rule.of_round(number) for number in (1, 2, 3, 9)] == [first, first, then, then]
    assert rule.requires == {"features"}
    assert rule.candidates_needed(7) == 14
    assert Scheduled(ClassBalanced(), then).candidates_needed(7) is None
    nested = Scheduled(first, Scheduled(ClassBalanced(), Greedy(), rounds=3))
    assert [nested.of_round(number).name for number in (1, 2, 3, 4)] == [
        "top_random",
        *["class_balanced"] * 2,
        "greedy",
    ]


@settings(max_examples=60)
@given(
    seed=SEEDS,
    count=st.integers(0, 30),
    dearest=st.sampled_from([1, 7]),
    amount=st.integers(0, 60),
    weights=st.dictionaries(st.integers(0, 5), st.integers(1, 4)),
)
def test_classes_take_turns(seed: int, count: int, dearest: int, amount: int, weights: dict[int, int]) -> None:
    rows = candidates(seed, count, dearest)
    assert round_robin(rows, weights).tolist() == turns(rows, weights)
    expected = affordable(turns(rows, {}), rows.costs.tolist(), amount)
    assert ClassBalanced().order(rows, amount).tolist() == expected


def test_classes_get_equal_shares_while_they_last() -> None:
    rows = candidates(5, 400)
    assert rows.classes is not None
    names = sorted(rows.classes[ClassBalanced().order(rows, 40)].tolist())
    assert [len(list(group)) for _, group in groupby(names)] == [10, 10, 10, 10]


@settings(max_examples=80)
@given(
    seed=SEEDS,
    count=st.integers(0, 25),
    dearest=st.sampled_from([1, 5]),
    amount=st.integers(0, 40),
    shortlist=st.sampled_from([None, 1, 2, 10]),
    known=st.integers(0, 3),
)
def test_k_centre_equals_the_double_loop(
    seed: int, count: int, dearest: int, amount: int, shortlist: int | None, known: int
) -> None:
    selection_rule, rows = KCentre(shortlist), candidates(seed, count, dearest)
    rows = rows.rows(rows.ranked()[: selection_rule.candidates_needed(amount)].sort().values)  # as an image keeps
    assert rows.features is not None
    start = torch.randn((known, 2), generator=torch.Generator().manual_seed(seed + 1)) if known else None
    costs, features = rows.costs.tolist(), rows.features.tolist()
    wanted = len(affordable(sorted(range(len(rows)), key=lambda row: costs[row]), costs, amount))
    ranked = best_first(rows.scores.tolist())[: None if shortlist is None else shortlist * wanted]
    picks = farthest_first([features[row] for row in ranked], wanted, [] if start is None else start.tolist())
    expected = affordable([ranked[pick] for pick in picks], costs, amount)
    assert selection_rule.order(rows, amount, start).tolist() == expected


def test_k_centre_starts_with_the_best_and_then_spreads() -> None:
    rows = candidates(0, 3)
    spread = Candidates(
        rows.images,
        rows.positions,
        scores=torch.tensor([0.2, 0.9, 0.8]),
        costs=torch.ones(3),
        features=torch.tensor([[9.0], [1.0], [1.5]]),
    )
    assert KCentre().order(spread, 2).tolist() == [1, 0]
    assert KCentre(shortlist=1).order(spread, 2).tolist() == [1, 2]
    assert KCentre().order(spread, 2, known=torch.tensor([[9.5]])).tolist() == [1, 2]


def test_k_centre_does_not_depend_on_candidates_below_its_shortlist() -> None:
    # A budget of 4 pixels pays for up to 4 superpixels, so that the 2 * 4 best enter, whatever else there is.
    costs = torch.tensor([2.0] * 8 + [1.0] * 4)
    features = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8.0])[:, None]
    whole = Candidates(
        torch.zeros(12, dtype=torch.int32),
        torch.arange(12, dtype=torch.int32),
        scores=torch.arange(12.0, 0.0, -1.0),
        costs=costs,
        features=features,
    )
    trimmed = whole.rows(torch.arange(8))
    selection_rule = KCentre(shortlist=2)
    assert selection_rule.candidates_needed(4) == 8
    assert selection_rule.order(trimmed, 4).tolist() == selection_rule.order(whole, 4).tolist()


@pytest.mark.parametrize(
    ("selection_rule", "name", "requires", "needed"),
    [
        (Greedy(), "greedy", set(), 7),
        (TopRandom(), "top_random", set(), 7),
        (ClassBalanced(), "class_balanced", {"classes"}, None),
        (KCentre(3), "k_centre", {"features"}, 21),
        (KCentre(None), "k_centre", {"features"}, None),
        (Power(), "power", set(), 7),
        (SegmentBalanced(2, 5), "segment_balanced", {"segments"}, 35),
        (SegmentBalanced(2, None), "segment_balanced", {"segments"}, None),
    ],
)
def test_attributes_of_the_rules(selection_rule: SelectionRule, name: str, requires: set, needed: int | None) -> None:
    assert (selection_rule.name, selection_rule.requires, selection_rule.candidates_needed(7)) == (
        name,
        requires,
        needed,
    )


@pytest.mark.parametrize("selection_rule", [Greedy(), ClassBalanced(), SegmentBalanced(), KCentre()])
def test_rules_that_draw_nothing_leave_units_alone(selection_rule: SelectionRule) -> None:
    given_units = units(0, 9, 0.5)
    assert selection_rule.prepare(given_units, 0) is given_units


@pytest.mark.parametrize("selection_rule", [ClassBalanced(), SegmentBalanced(), KCentre()])
def test_missing_fields_are_refused(selection_rule: SelectionRule) -> None:
    rows = candidates(0, 3)
    bare = Candidates(rows.images, rows.positions, rows.scores, rows.costs)
    with pytest.raises(ValueError, match=r"expected candidates with (classes|segments|features), got none"):
        selection_rule.order(bare, 2, None)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"TopRandom: share must be a number > 0 and <= 1"):
        TopRandom(share)


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"KCentre: shortlist must be .* >= 1, got 0"):
        KCentre(0)
    with pytest.raises(UserError, match=r"SegmentBalanced: shortlist must be .* >= 1, got 0"):
        SegmentBalanced(shortlist=0)
    with pytest.raises(UserError, match=r"SegmentBalanced: most must be .* >= 1, got 0"):
        SegmentBalanced(most=0)
    with pytest.raises(UserError, match=r"Power: beta must be .* >= 0 and <= 1000, got -1"):
        Power(beta=-1)
    with pytest.raises(UserError, match=r"Scheduled: rounds must be .* >= 1, got 0"):
        Scheduled(Greedy(), Greedy(), rounds=0)
