"""A round over a pool against one plain greedy loop over all images, however processes share them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import (
    Budget,
    Candidates,
    ClassBalanced,
    Greedy,
    KCentre,
    Picks,
    Pixel,
    Power,
    RegionType,
    RoundSelection,
    Scheduled,
    Scored,
    ScoreInputs,
    SegmentBalanced,
    SelectionRule,
    Square,
    Strategy,
    Superpixel,
    TopRandom,
    WholeImage,
    round_selection,
    select,
)
from ripu_lightning.connected_segments import connected_segments

SEEDS = st.integers(0, 10_000)
SHAPE = (12, 16)
Positions = dict[int, list[int]]


def drawn(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(number * 1009**place for place, number in enumerate(numbers)))


def of_first_channel(
    region_type: RegionType, selection_rule: SelectionRule | None = None, requires: Sequence[str] = ()
) -> Strategy:
    """The first logit is the score."""
    return Scored("given", lambda inputs: inputs.logits[:, 0], region_type, selection_rule, requires)


@dataclass
class Pool:
    """Images with random scores (few levels: many ties), availability and superpixels."""

    seed: int
    images: int
    levels: int = 3
    shape: tuple[int, int] = SHAPE
    share: float = 0.9
    available: list[Tensor] = field(default_factory=list)
    queried: dict[int, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        draws = [torch.rand(self.shape, generator=drawn(self.seed, index, 1)) for index in range(self.images)]
        self.available = [draw < self.share for draw in draws]
        self.queried = {index: [] for index in range(self.images)}

    @property
    def pixels(self) -> int:
        return self.images * self.shape[0] * self.shape[1]

    def inputs(self, index: int, round_number: int) -> ScoreInputs:
        logits = torch.randint(1, self.levels + 1, (1, 4, *self.shape), generator=drawn(self.seed, index, round_number))
        features = torch.randint(1, 9, (1, 2, 3, 4), generator=drawn(self.seed, index, 90))
        regions = torch.randint(0, 60, self.shape, generator=drawn(self.seed, index, 91)).unique(return_inverse=True)[1]
        return ScoreInputs(logits.float(), [f"image_{index}"], round_number, 7, features.float(), None, regions[None])

    def score(
        self, strategy: Strategy, budget: Budget, round_number: int, owners: Sequence[int]
    ) -> tuple[list[RoundSelection], dict[int, Picks]]:
        """Each image scored by the process that owns it, and the picks that are final already."""
        count = max(owners, default=0) + 1
        processes = [round_selection(strategy, budget, round_number, self.pixels) for _ in range(count)]
        final: dict[int, Picks] = {}
        for index in range(self.images):
            queried = torch.tensor(self.queried[index], dtype=torch.int64)
            inputs = self.inputs(index, round_number)
            final |= processes[owners[index]].add(index, inputs, self.available[index], queried)
        return processes, final

    def select(self, strategy: Strategy, budget: Budget, round_number: int, owners: Sequence[int]) -> Positions:
        processes, final = self.score(strategy, budget, round_number, owners)
        decided = processes[0].decide([part for each in reversed(processes) for part in each.candidates()])
        assert not (final and decided)
        return {index: picked.positions.tolist() for index, picked in (final | decided).items()}

    def mark(self, queried: Positions, region_type: RegionType) -> None:
        """Make the queried pixels, and the squares around them, unavailable."""
        for index, positions in queried.items():
            self.queried[index] += positions
            regions = self.inputs(index, 1).regions
            assert regions is not None
            members = region_type.members(torch.tensor(positions), self.shape, regions[0])[0]
            self.available[index].view(-1)[members] = False
            for position in positions:
                block(self.available[index], position, region_type.exclusion)


def block(available: Tensor, position: int, radius: int) -> None:
    row, column = divmod(position, available.shape[1])
    available[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1] = False


def one_loop(
    pool: Pool, round_number: int, exclusion: int, area: int, amount: float, bound: float = float("inf")
) -> Positions:
    """The best pixel of all images, the first image and position of equals; block around it; repeat.

    An image that has reached ``bound`` is left alone.
    """
    available = [each.clone() for each in pool.available]
    scores = torch.stack([pool.inputs(index, round_number).logits[0, 0] for index in range(pool.images)])
    queried: Positions = {}
    spent = 0
    while spent < amount and any(bool(each.any()) for each in available):
        masked = scores.masked_fill(~torch.stack(available), -torch.inf).flatten()
        first = int((masked == masked.max()).nonzero()[0])
        index, position = divmod(first, pool.shape[0] * pool.shape[1])
        queried.setdefault(index, []).append(position)
        block(available[index], position, exclusion)
        spent += area
        if len(queried[index]) * area >= bound:
            available[index][:] = False
    return queried


def one_loop_of_superpixels(pool: Pool, round_number: int, amount: float, counts_pixels: bool) -> Positions:
    """The best superpixel of all images by its largest score, the first image and number of equals; repeat."""
    rows = []
    for index in range(pool.images):
        inputs = pool.inputs(index, round_number)
        assert inputs.regions is not None
        for number in range(int(inputs.regions.max()) + 1):
            inside = inputs.regions[0] == number
            if bool(pool.available[index][inside].all()):
                size = int(inside.sum()) if counts_pixels else 1
                rows.append((-float(inputs.logits[0, 0][inside].max()), index, number, size))
    queried: Positions = {}
    spent = 0
    for _, index, number, size in sorted(rows):
        if spent >= amount:
            break
        queried.setdefault(index, []).append(number)
        spent += size
    return queried


def numbers_of(pool: Pool, queried: Positions) -> Positions:
    """Superpixels by number instead of by centre."""
    maps = {index: pool.inputs(index, 1).regions for index in queried}
    return {index: regions.view(-1)[queried[index]].tolist() for index, regions in maps.items() if regions is not None}


@settings(max_examples=60)
@given(
    seed=SEEDS,
    owners=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    levels=st.sampled_from([1, 2, 4, 1000]),
    share=st.sampled_from([0.02, 0.5, 1.0]),
    radius=st.integers(0, 2),
    more=st.integers(0, 3),
    options=st.sampled_from(
        [{"clicks": 3}, {"clicks": 17, "split": "geometric"}, {"pixels": 90, "split": [3, 1, 2]}, {"ratio": 0.05}]
    ),
)
def test_a_pool_is_one_greedy_loop_over_all_images(
    seed: int, owners: list[int], levels: int, share: float, radius: int, more: int, options: dict
) -> None:
    region_type = Square(radius, exclusion=2 * radius + more)
    pool, strategy = Pool(seed, len(owners), levels, share=share), of_first_channel(region_type)
    budget = Budget(**options, per="pool", rounds=3)
    area = region_type.area(*SHAPE) if budget.counts_pixels else 1
    for number in (1, 2, 3):
        queried = pool.select(strategy, budget, number, owners)
        expected = one_loop(pool, number, region_type.exclusion, area, budget.amount(number, pool.pixels))
        assert queried == expected
        pool.mark(queried, region_type)


@settings(max_examples=40)
@given(
    seed=SEEDS,
    owners=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    share=st.sampled_from([0.8, 1.0]),
    options=st.sampled_from([{"regions": 9}, {"pixels": 15}, {"pixels": 200}, {"ratio": 0.1}]),
)
def test_a_pool_of_superpixels_is_one_loop_and_costs_their_pixels(
    seed: int, owners: list[int], share: float, options: dict
) -> None:
    region_type = Superpixel(reduce="max")
    pool, strategy = Pool(seed, len(owners), share=share), of_first_channel(region_type)
    budget = Budget(**options, per="pool", rounds=2)
    for number in (1, 2):
        queried = pool.select(strategy, budget, number, owners)
        amount = budget.amount(number, pool.pixels)
        assert numbers_of(pool, queried) == one_loop_of_superpixels(pool, number, amount, budget.counts_pixels)
        pool.mark(queried, region_type)


@settings(max_examples=60)
@given(
    seed=SEEDS,
    owners=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    levels=st.sampled_from([1, 2, 1000]),
    most=st.sampled_from([1, 1.3, 2, 50]),
    options=st.sampled_from([{"clicks": 3}, {"clicks": 40}, {"pixels": 90}, {"ratio": 0.1}]),
)
def test_a_bounded_pool_is_one_greedy_loop_with_a_bound_on_each_image(
    seed: int, owners: list[int], levels: int, most: float, options: dict
) -> None:
    region_type = Square(1)
    pool, strategy = Pool(seed, len(owners), levels), of_first_channel(region_type)
    budget = Budget(**options, per="pool", rounds=2, most=most)
    area = region_type.area(*SHAPE) if budget.counts_pixels else 1
    for number in (1, 2):
        amount = budget.amount(number, pool.pixels)
        queried = pool.select(strategy, budget, number, owners)
        assert queried == one_loop(pool, number, region_type.exclusion, area, amount, most * amount / len(owners))
        pool.mark(queried, region_type)


@settings(max_examples=30)
@given(
    seed=SEEDS,
    owners=st.lists(st.integers(0, 2), min_size=2, max_size=5),
    most=st.sampled_from([1, 2]),
    rule=st.sampled_from([KCentre(2), ClassBalanced(), SegmentBalanced(1, 4)]),
)
def test_a_bounded_pool_allots_by_score_what_the_rule_selects_inside_each_image(
    seed: int, owners: list[int], most: float, rule: SelectionRule
) -> None:
    pool, region_type, clicks = Pool(seed, len(owners), levels=1000), Square(1), 12
    budget = Budget(clicks=clicks, per="pool", rounds=1, most=most)
    pool.queried = {index: [5, 40] for index in range(pool.images)}
    bound = -int(-most * clicks // pool.images)
    # Each image by itself: the rule's order for the bound, and the best scores among its candidates.
    inside = {}
    for index in range(pool.images):
        alone = Budget(clicks=bound, rounds=1)
        selection = round_selection(of_first_channel(region_type, rule), alone, 1, pool.pixels)
        queried = torch.tensor(pool.queried[index])
        inside[index] = selection.add(index, pool.inputs(index, 1), pool.available[index], queried)[index].positions
    scores = [pool.inputs(index, 1).logits[0, 0] for index in range(pool.images)]
    greedy = [select(scores[i], pool.available[i], bound, 1, 2).scores.tolist() for i in range(pool.images)]
    best = sorted((-score, index) for index, column in enumerate(greedy) for score in column)[:clicks]
    expected = {index: [at for _, at in best].count(index) for index in range(pool.images)}
    found = pool.select(of_first_channel(region_type, rule), budget, 1, owners)
    assert found == {index: inside[index][:count].tolist() for index, count in expected.items() if count}


def test_a_bounded_pool_keeps_no_features_and_no_more_than_the_budget_pays_for() -> None:
    pool, budget = Pool(0, 12, levels=1000), Budget(clicks=9, per="pool", rounds=1, most=3)
    selection = round_selection(of_first_channel(Square(1), KCentre()), budget, 1, pool.pixels)
    for index in range(pool.images):
        assert selection.add(index, pool.inputs(index, 1), pool.available[index], torch.tensor([3])) == {}
        assert sum(map(len, selection.candidates())) <= 1.25 * 9 + 1
        assert all(part.features is None and part.queried is None for part in selection.candidates())


def test_a_schedule_selects_by_the_rule_of_its_round() -> None:
    pool, budget = Pool(3, 2, levels=1000), Budget(clicks=5, rounds=2)
    by_rule = {rule: of_first_channel(Pixel(), rule) for rule in (TopRandom(1.0), Greedy())}
    scheduled = of_first_channel(Pixel(), Scheduled(*by_rule))
    for number, alone in zip((1, 2), by_rule.values(), strict=True):
        assert pool.select(scheduled, budget, number, [0, 1]) == pool.select(alone, budget, number, [0, 1])
    ending = of_first_channel(Pixel(), Scheduled(Greedy(exhausted="origin"), Greedy()))
    for available in pool.available:
        available.fill_(False)
    assert pool.select(ending, budget, 1, [0, 1]) == {0: [0], 1: [0]}
    assert pool.select(ending, budget, 2, [0, 1]) == {}


def test_segments_of_candidates_are_those_of_the_prediction_at_their_centres() -> None:
    pool, strategy = Pool(5, 1), of_first_channel(Square(1), SegmentBalanced())
    ((process,), _) = pool.score(strategy, Budget(clicks=9, per="pool", rounds=1), 1, [0])
    (part,) = process.candidates()
    predicted = connected_segments(pool.inputs(0, 1).logits[0].argmax(dim=0))
    assert part.segments is not None
    assert part.segments.tolist() == predicted.view(-1)[part.positions.long()].tolist()
    assert len(set(part.segments.tolist())) > 1


@pytest.mark.parametrize("options", [{"images": 2}, {"ratio": 0.3}])
def test_a_pool_of_whole_images(options: dict) -> None:
    pool, strategy = Pool(4, 5, levels=1000, share=1.0), of_first_channel(WholeImage())
    pool.available[2][3, 4] = False
    means = [float(pool.inputs(index, 1).logits[0, 0].mean()) for index in range(5)]
    best = sorted((index for index in range(5) if index != 2), key=lambda index: -means[index])[:2]
    budget = Budget(**options, per="pool", rounds=1)
    assert pool.select(strategy, budget, 1, [0, 1, 0, 1, 2]) == {index: [0] for index in sorted(best)}


@settings(max_examples=30)
@given(seed=SEEDS, clicks=st.integers(1, 12), levels=st.sampled_from([1, 3, 1000]))
def test_what_is_kept_does_not_grow_with_the_pool(seed: int, clicks: int, levels: int) -> None:
    pool, budget = Pool(seed, 12, levels), Budget(clicks=clicks, per="pool", rounds=1)
    selection = round_selection(of_first_channel(Pixel()), budget, 1, pool.pixels)
    for index in range(pool.images):
        assert selection.add(index, pool.inputs(index, 1), pool.available[index]) == {}
        assert sum(map(len, selection.candidates())) <= 1.25 * clicks + 1
    assert len(selection.candidates()) < pool.images


@pytest.mark.parametrize(
    ("region_type", "options", "limit"),
    [
        (Square(1), {"clicks": 6}, 6),
        (Square(1), {"pixels": 50}, 6),
        (Superpixel(reduce="max"), {"pixels": 12}, 12),
        (Superpixel(reduce="max"), {"regions": 12}, 12),
    ],
)
def test_candidates_are_trimmed_to_the_most_that_could_be_selected(
    region_type: RegionType, options: dict, limit: int
) -> None:
    pool, strategy = Pool(3, 8, share=1.0), of_first_channel(region_type)
    budget = Budget(**options, per="pool", rounds=1)
    first, second = (process.candidates() for process in pool.score(strategy, budget, 1, [0] * 7 + [1])[0])
    assert len(first) < 7
    assert len(first[0]) == limit
    assert len(second) == 1


@settings(max_examples=30)
@given(
    seed=SEEDS,
    owners=st.lists(st.integers(0, 2), min_size=2, max_size=5),
    selection_rule=st.sampled_from(
        [TopRandom(0.05), TopRandom(1.0), Power(), ClassBalanced(), SegmentBalanced(1, 3), KCentre(2), KCentre(None)]
    ),
    region_type=st.sampled_from([Pixel(2), Square(1), Superpixel(reduce="max")]),
    options=st.sampled_from([{"clicks": 8}, {"pixels": 24}, {"clicks": 8, "most": 1.5}, {"pixels": 24, "most": 3}]),
)
def test_no_rule_depends_on_who_scored_what(
    seed: int, owners: list[int], selection_rule: SelectionRule, region_type: RegionType, options: dict
) -> None:
    pool, strategy = Pool(seed, len(owners)), of_first_channel(region_type, selection_rule)
    budget = Budget(**options, per="pool", rounds=2)
    for number in (1, 2):
        queried = pool.select(strategy, budget, number, owners)
        assert queried == pool.select(strategy, budget, number, [0] * len(owners))
        assert queried
        pool.mark(queried, region_type)


@settings(max_examples=40)
@given(
    seed=SEEDS,
    levels=st.sampled_from([1, 3, 1000]),
    radius=st.integers(0, 2),
    options=st.sampled_from([{"clicks": 9}, {"ratio": 0.1}, {"pixels": 40, "split": "geometric"}]),
)
def test_a_budget_of_each_image_is_what_select_picks(seed: int, levels: int, radius: int, options: dict) -> None:
    pool, region_type, budget = Pool(seed, 3, levels), Square(radius), Budget(**options, rounds=2)
    for number in (1, 2):
        amount = budget.amount(number, SHAPE[0] * SHAPE[1])
        count = -int(-amount // (region_type.area(*SHAPE) if budget.counts_pixels else 1))
        queried = pool.select(of_first_channel(region_type), budget, number, [0, 1, 0])
        for index in range(3):
            scores = pool.inputs(index, number).logits[0, 0]
            picked = select(scores, pool.available[index], count, radius, 2 * radius)
            assert queried.get(index, []) == (picked.centres @ torch.tensor([SHAPE[1], 1])).tolist()
        pool.mark(queried, region_type)


@pytest.mark.parametrize("per", ["image", "pool"])
def test_random_picks_are_drawn_anew_for_each_image_and_round(per: str) -> None:
    pool, strategy = Pool(0, 2, levels=1, share=1.0), of_first_channel(Pixel(), TopRandom(1.0))
    budget = Budget(clicks=40, per=per, rounds=2)
    first, second = (pool.select(strategy, budget, number, [0, 0]) for number in (1, 2))
    assert first == pool.select(strategy, budget, 1, [0, 0])
    assert first[0] != first[1]
    assert set(first[0]) != set(second[0])


def test_candidates_have_the_fields_that_the_rule_requires() -> None:
    pool, strategy = Pool(5, 1), of_first_channel(Superpixel(reduce="max"), KCentre())
    pool.queried[0] = [0, 17]
    (process,), _ = pool.score(strategy, Budget(pixels=30, per="pool", rounds=1), 1, [0])
    (part,) = process.candidates()
    inputs = pool.inputs(0, 1)
    assert inputs.regions is not None
    assert inputs.features is not None
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij")
    seen = inputs.features[0][:, rows // 4, columns // 4]
    masks = [inputs.regions[0] == inputs.regions.view(-1)[int(position)] for position in part.positions]
    described = torch.stack([seen[:, mask].mean(dim=1) for mask in masks])
    assert part.features is not None
    assert part.queried is not None
    torch.testing.assert_close(part.features, described)
    assert part.costs.tolist() == [int(mask.sum()) for mask in masks]
    known = [seen[:, inputs.regions[0] == inputs.regions.view(-1)[position]].mean(dim=1) for position in (0, 17)]
    torch.testing.assert_close(part.queried, torch.stack(known))
    assert part.classes is None


def test_picks_are_by_image_in_order_of_selection() -> None:
    rows = torch.tensor([2, 5, 5, 2])
    part = Candidates(rows.int(), torch.tensor([9, 1, 4, 3]).int(), torch.tensor([0.4, 0.9, 0.2, 0.3]), torch.ones(4))
    picks = round_selection(of_first_channel(Pixel()), Budget(clicks=3, per="pool", rounds=1), 1, 100).decide([part])
    assert {index: picked.positions.tolist() for index, picked in picks.items()} == {2: [9, 3], 5: [1]}
    assert isinstance(picks[2], Picks)
    assert picks[2].positions.dtype == torch.int64
    assert picks[2].scores.tolist() == pytest.approx([0.4, 0.3])


@pytest.mark.parametrize("per", ["image", "pool"])
def test_images_without_anything_available_get_no_query(per: str) -> None:
    pool, strategy = Pool(1, 3), of_first_channel(Pixel())
    budget = Budget(clicks=500, per=per, rounds=1)
    pool.available[1].fill_(False)
    assert sorted(pool.select(strategy, budget, 1, [0, 0, 0])) == [0, 2]
    for available in pool.available:
        available.fill_(False)
    assert pool.select(strategy, budget, 1, [0, 0, 0]) == {}


def test_a_round_without_an_amount_selects_nothing() -> None:
    pool, strategy = Pool(1, 3), of_first_channel(Pixel())
    budget = Budget(clicks=1, per="pool", rounds=3)
    assert [len(pool.select(strategy, budget, number, [0, 0, 0])) for number in (1, 2, 3)] == [0, 0, 1]


def test_without_images_nothing_is_selected() -> None:
    assert round_selection(of_first_channel(Pixel()), Budget(clicks=1, per="pool"), 1, 100).decide([]) == {}


def test_only_a_budget_of_the_pool_waits_for_all_images() -> None:
    pool, strategy = Pool(1, 2), of_first_channel(Pixel())
    for per in ("image", "pool"):
        budget = Budget(clicks=2, per=per, rounds=1)
        (process,), final = pool.score(strategy, budget, 1, [0, 0])
        assert process.keeps_regions == (per == "pool")
        assert (sorted(final), bool(process.candidates())) == (([], True) if per == "pool" else ([0, 1], False))
        assert bool(process.decide(process.candidates())) == (per == "pool")


@pytest.mark.parametrize("then", [3, 1])
def test_images_come_in_rising_order(then: int) -> None:
    pool = Pool(0, 4)
    selection = round_selection(of_first_channel(Pixel()), Budget(clicks=2, per="pool"), 1, pool.pixels)
    selection.add(3, pool.inputs(3, 1), pool.available[3])
    with pytest.raises(ValueError, match=f"rising order, got image {then} after 3"):
        selection.add(then, pool.inputs(then, 1), pool.available[then])


def test_batches_are_refused() -> None:
    inputs = ScoreInputs(torch.rand(2, 3, 4, 5), ["a", "b"], 1, 0)
    selection = round_selection(of_first_channel(Pixel()), Budget(clicks=2), 1, 40)
    with pytest.raises(ValueError, match=r"single images.* in a batch of 2"):
        selection.add(0, inputs, torch.ones(4, 5, dtype=torch.bool))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("selection_rule", [Greedy(), TopRandom(0.05), TopRandom(1.0), ClassBalanced(), KCentre()])
def test_scores_that_are_not_finite_are_refused(selection_rule: SelectionRule, bad: float) -> None:
    pool, strategy = Pool(0, 1, share=1.0), of_first_channel(Pixel(), selection_rule)
    inputs = pool.inputs(0, 1)
    inputs.logits[0, 0, 3, 4] = bad
    selection = round_selection(strategy, Budget(clicks=2, per="pool", rounds=1), 1, pool.pixels)
    with pytest.raises(ValueError, match="finite"):
        selection.add(0, inputs, pool.available[0])


@pytest.mark.parametrize("region_type", [Square(1), Square(1, reduce="max"), Superpixel(), WholeImage()])
@pytest.mark.parametrize("shape", [(16, 12), (6, 8)])
def test_scores_of_another_shape_are_refused(region_type: RegionType, shape: tuple[int, int]) -> None:
    pool = Pool(0, 1, share=1.0)
    strategy = Scored("bent", lambda inputs: torch.rand(1, *shape, generator=drawn(0)), region_type)
    selection = round_selection(strategy, Budget(clicks=2, per="pool", rounds=1), 1, pool.pixels)
    with pytest.raises(ValueError, match="bent"):
        selection.add(0, pool.inputs(0, 1), pool.available[0])
