"""Selection against the plain greedy loop of full-map argmaxes, ties included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import select
from ripu_lightning.acquisition.selection import best_first, greedy


def greedy_loop(
    scores: Tensor, available: Tensor, count: int, radius: int, exclusion: int
) -> tuple[list, Tensor, Tensor]:
    """One full-map argmax a pick; the first of equals in row-major order."""
    width = scores.shape[1]
    available, region, picks = available.clone(), torch.zeros_like(available), []
    for _ in range(count):
        if not available.any():
            break
        masked = scores.masked_fill(~available, -torch.inf)
        flat = int((masked == masked.max()).flatten().nonzero()[0])
        row, column = divmod(flat, width)
        picks.append([row, column])
        region[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1] = True
        low = max(row - exclusion, 0), max(column - exclusion, 0)
        available[low[0] : row + exclusion + 1, low[1] : column + exclusion + 1] = False
    return picks, available, region


def sorted_loop(
    scores: Tensor, available: Tensor, count: int, radius: int, exclusion: int
) -> tuple[list, Tensor, Tensor]:
    """The same for large maps: all pixels sorted once by (score, position) in Python, blocked ones left out."""
    width, values = scores.shape[1], scores.flatten().tolist()
    available, region, picks = available.clone(), torch.zeros_like(available), []
    left = available.numpy()  # shares memory; read quicker one by one
    for flat in sorted(available.flatten().nonzero()[:, 0].tolist(), key=lambda pixel: -values[pixel]):
        row, column = divmod(flat, width)
        if len(picks) == count:
            break
        if left[row, column]:
            picks.append([row, column])
            region[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1] = True
            left[max(row - exclusion, 0) : row + exclusion + 1, max(column - exclusion, 0) : column + exclusion + 1] = 0
    return picks, available, region


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    levels=st.sampled_from([1, 2, 5, 1000]),
    share=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    count=st.integers(0, 40),
    radius=st.integers(0, 3),
    exclusion=st.integers(0, 5),
)
def test_equals_the_greedy_loop(
    seed: int, height: int, width: int, levels: int, share: float, count: int, radius: int, exclusion: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-levels, levels, (height, width), generator=generator).float()  # few levels: many ties
    available = torch.rand((height, width), generator=generator) < share
    before = available.clone()
    picked = select(scores, available, count, radius, exclusion)
    picks, left, region = greedy_loop(scores, available, count, radius, exclusion)
    assert picked.centres.tolist() == picks
    assert torch.equal(picked.available, left)
    assert torch.equal(picked.region, region)
    assert torch.equal(available, before)
    assert picked.centres.dtype == torch.int64
    assert picked.scores.tolist() == [scores[row, column].item() for row, column in picks]


def test_state_carried_over_rounds_equals_one_long_loop_without_new_scores() -> None:
    scores = torch.rand((40, 60), generator=torch.Generator().manual_seed(0))
    available = torch.ones((40, 60), dtype=torch.bool)
    whole = select(scores, available, 30, radius=1, exclusion=2)
    parts = []
    for _ in range(3):
        part = select(scores, available, 10, radius=1, exclusion=2)
        parts += part.centres.tolist()
        available = part.available
    assert parts == whole.centres.tolist()
    assert torch.equal(available, whole.available)


def test_many_ties_on_a_large_map() -> None:
    scores = (torch.rand((200, 300), generator=torch.Generator().manual_seed(1)) * 3).floor()
    available = torch.ones((200, 300), dtype=torch.bool)
    picks, _, _ = greedy_loop(scores, available, 60, 1, 2)
    assert select(scores, available, 60, 1, 2).centres.tolist() == picks


def test_nothing_available_gives_an_empty_selection() -> None:
    picked = select(torch.rand(4, 5), torch.zeros(4, 5, dtype=torch.bool), 3)
    assert picked.centres.shape == (0, 2)
    assert not picked.region.any()


def test_scores_may_be_anything_where_nothing_is_available() -> None:
    scores = torch.tensor([[torch.nan, 1.0, 2.0]])
    picked = select(scores, torch.tensor([[False, True, True]]), 2, radius=0, exclusion=0)
    assert picked.centres.tolist() == [[0, 2], [0, 1]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_non_finite_scores_are_refused(bad: float) -> None:
    scores = torch.rand(4, 5)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match="finite"):
        select(scores, torch.ones(4, 5, dtype=torch.bool), 1)


@pytest.mark.parametrize(
    ("scores", "available", "numbers", "message"),
    [
        (torch.rand(1, 4, 5), torch.ones(4, 5, dtype=torch.bool), (1, 1, 2), r"scores \(H, W\)"),
        (torch.ones(4, 5, dtype=torch.int64), torch.ones(4, 5, dtype=torch.bool), (1, 1, 2), r"scores \(H, W\)"),
        (torch.rand(4, 5), torch.ones(5, 4, dtype=torch.bool), (1, 1, 2), "available as bool"),
        (torch.rand(4, 5), torch.ones(4, 5), (1, 1, 2), "available as bool"),
        (torch.rand(4, 5), torch.ones(4, 5, dtype=torch.bool), (-1, 1, 2), "select: (count|radius) must be .* >= 0"),
        (torch.rand(4, 5), torch.ones(4, 5, dtype=torch.bool), (1, -1, 2), "select: (count|radius) must be .* >= 0"),
    ],
)
def test_wrong_arguments_are_refused(scores: Tensor, available: Tensor, numbers: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(scores, available, *numbers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [7, 400])
def test_huge_maps_in_any_precision(dtype: torch.dtype, count: int) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn((600, 700), generator=generator).to(dtype)  # half precision: ties in every look
    available = torch.rand((600, 700), generator=generator) < 0.7
    picked = select(scores, available, count, radius=1, exclusion=4)
    picks, left, region = sorted_loop(scores, available, count, 1, 4)
    assert picked.centres.tolist() == picks
    assert picked.scores.dtype == dtype
    assert torch.equal(picked.available, left)
    assert torch.equal(picked.region, region)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("exclusion", [0, 1, 40])
def test_huge_maps_of_smooth_scores(seed: int, exclusion: int) -> None:
    # The best pixels lie side by side and block each other, so that the first look does not suffice.
    rough = torch.randn((1, 1, 15, 17), generator=torch.Generator().manual_seed(seed))
    scores = torch.nn.functional.interpolate(rough, (600, 700), mode="bicubic")[0, 0]
    available = torch.ones((600, 700), dtype=torch.bool)
    picks, _, _ = sorted_loop(scores, available, 150, 0, exclusion)
    assert select(scores, available, 150, 0, exclusion).centres.tolist() == picks


@pytest.mark.parametrize("value", [-3.0, 0.0, 0.5])
def test_equal_scores_on_a_huge_map(value: float) -> None:
    scores = torch.full((600, 700), value)
    available = torch.rand((600, 700), generator=torch.Generator().manual_seed(5)) < 0.5
    picks, _, _ = sorted_loop(scores, available, 300, 1, 2)
    assert select(scores, available, 300, 1, 2).centres.tolist() == picks


@pytest.mark.parametrize("positives", [1, 40, 3000])
def test_a_plateau_at_zero_with_few_positives_on_a_huge_map(positives: int) -> None:
    generator = torch.Generator().manual_seed(positives)
    scores = torch.zeros(600 * 700)
    scores[torch.randperm(600 * 700, generator=generator)[:positives]] = torch.rand(positives, generator=generator)
    scores = scores.reshape(600, 700)
    available = torch.rand((600, 700), generator=generator) < 0.9
    picks, left, _ = sorted_loop(scores, available, 500, 1, 3)
    picked = select(scores, available, 500, 1, 3)
    assert picked.centres.tolist() == picks
    assert torch.equal(picked.available, left)


def test_few_available_pixels_on_a_huge_map_that_no_sample_hits() -> None:
    generator = torch.Generator().manual_seed(9)
    scores = torch.rand((600, 700), generator=generator)
    available = torch.zeros(600 * 700, dtype=torch.bool)
    available[torch.randperm(600 * 700, generator=generator)[:9]] = True
    available = available.reshape(600, 700)
    picks, _, _ = sorted_loop(scores, available, 20, 0, 0)
    assert len(picks) == 9
    assert select(scores, available, 20, 0, 0).centres.tolist() == picks


@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_more_picks_than_fit_into_a_huge_map(levels: int) -> None:
    scores = torch.randint(0, levels, (600, 700), generator=torch.Generator().manual_seed(7)).float()
    available = torch.ones((600, 700), dtype=torch.bool)
    picks, left, _ = sorted_loop(scores, available, 10**6, 9, 30)
    picked = select(scores, available, 10**6, 9, 30)
    assert picked.centres.tolist() == picks
    assert 0 < len(picks) < 600
    assert not left.any()
    assert not picked.available.any()


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    length=st.integers(1, 200),
    levels=st.sampled_from([1, 3, 1000]),
    count=st.integers(0, 30),
    floor=st.sampled_from([-torch.inf, -0.5, 0.0, 1.0]),
)
def test_picks_lie_above_the_floor(seed: int, length: int, levels: int, count: int, floor: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-levels, levels + 1, (length,), generator=generator).float() / 2
    available = torch.rand(length, generator=generator) < 0.8
    above = [pixel for pixel in range(length) if available[pixel] and scores[pixel] > floor]
    expected = sorted(above, key=lambda pixel: -float(scores[pixel]))
    assert greedy(scores, available, count, 0, (1, length), floor)[0] == expected[:count]
    assert best_first(scores, available, floor).tolist() == expected


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("levels", [4, 10**6])
def test_a_floor_on_a_huge_map(quantile: float, levels: int) -> None:
    scores = torch.randint(0, levels, (600, 700), generator=torch.Generator().manual_seed(11)).float()
    available = torch.rand((600, 700), generator=torch.Generator().manual_seed(12)) < 0.8
    floor = float(scores.flatten().sort().values[int(quantile * (600 * 700 - 1))])
    picks, _ = greedy(scores.flatten(), available.flatten(), 250, 2, (600, 700), floor)
    expected, _, _ = sorted_loop(scores, available & (scores > floor), 250, 0, 2)
    assert picks == [row * 700 + column for row, column in expected]


def test_scores_with_gradients_are_read_and_left_alone() -> None:
    scores = torch.rand((6, 7), generator=torch.Generator().manual_seed(0)).requires_grad_()
    picked = select(scores, torch.ones((6, 7), dtype=torch.bool), 3)
    assert not picked.scores.requires_grad
    assert scores.requires_grad
