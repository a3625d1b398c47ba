"""Selection against the plain greedy loop of full-map argmaxes, ties included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import select


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


@settings(max_examples=150, deadline=None)
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
        (torch.rand(4, 5), torch.ones(4, 5, dtype=torch.bool), (-1, 1, 2), "0 or more"),
        (torch.rand(4, 5), torch.ones(4, 5, dtype=torch.bool), (1, -1, 2), "0 or more"),
    ],
)
def test_wrong_arguments_are_refused(scores: Tensor, available: Tensor, numbers: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select(scores, available, *numbers)
