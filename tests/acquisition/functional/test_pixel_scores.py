"""Scores of single pixels against plain Python over the formulas, and their properties."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import functional as F


def random_logits(seed: int, classes: int, height: int, width: int, batch: int = 1, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, classes, height, width), generator=generator, dtype=torch.float64) * scale


def plain_shares(values: list[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 6), eps=st.sampled_from([0.0, F.PUBLIC_EPS, 0.1]))
def test_scores_are_the_plain_formulas(seed: int, classes: int, eps: float) -> None:
    logits = random_logits(seed, classes, 3, 4, batch=2)
    for image, row, column in [(i, y, x) for i in range(2) for y in range(3) for x in range(4)]:
        shares = plain_shares(logits[image, :, row, column].tolist())
        first, second = sorted(shares, reverse=True)[:2]
        at = (image, row, column)
        nats = -sum(p * math.log(p + eps) for p in shares)
        assert F.entropy(logits, eps=eps)[at].item() == pytest.approx(nats / math.log(classes), abs=1e-9)
        assert F.entropy(logits, normalize=False, eps=eps)[at].item() == pytest.approx(nats, abs=1e-9)
        assert F.least_confidence(logits)[at].item() == pytest.approx((1 - first) / (1 - 1 / classes), abs=1e-9)
        assert F.least_confidence(logits, normalize=False)[at].item() == pytest.approx(1 - first, abs=1e-9)
        assert F.margin(logits)[at].item() == pytest.approx(1 - (first - second), abs=1e-9)
        assert F.best_versus_second_best(logits)[at].item() == pytest.approx(second / first, abs=1e-9)


PIXEL_SCORES = [F.entropy, F.least_confidence, F.margin, F.best_versus_second_best]


@pytest.mark.parametrize("score", PIXEL_SCORES)
@pytest.mark.parametrize("classes", [2, 19, 300])
def test_ends_of_the_range(score: Callable[[Tensor], Tensor], classes: int) -> None:
    undecided = torch.full((1, classes, 2, 2), 3.5)
    certain = undecided.clone()
    certain[:, classes - 1] = 200
    assert score(undecided) == pytest.approx(torch.ones(1, 2, 2), abs=1e-6)
    assert (score(certain) == 0).all()


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), shift=st.floats(-50, 50), order=st.permutations(range(5)))
def test_neither_order_of_classes_nor_a_constant_matters(seed: int, shift: float, order: list[int]) -> None:
    logits = random_logits(seed, 5, 4, 4)
    for score in PIXEL_SCORES:
        torch.testing.assert_close(score(logits[:, order] + shift), score(logits), atol=1e-9, rtol=0)


@pytest.mark.parametrize("tied", [[2.0, 2.0, 0.0], [2.0, 0.0, 2.0], [0.0, 2.0, 2.0], [2.0, 2.0, 2.0]])
def test_two_equal_best_classes_have_no_lead(tied: list[float]) -> None:
    logits = torch.tensor(tied).reshape(1, 3, 1, 1)
    assert F.margin(logits).item() == 1
    assert F.best_versus_second_best(logits).item() == 1


def test_large_logits_keep_their_entropy() -> None:
    logits = random_logits(5, 4, 6, 6).float()
    torch.testing.assert_close(F.entropy(logits + 1e4 - 1e4), F.entropy(logits + 1e4), atol=2e-3, rtol=0)
