"""Scores against plain per-pixel loops over the formulas, and their properties."""

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


def window(row: int, column: int, radius: int, height: int, width: int) -> list[tuple[int, int]]:
    rows = range(max(row - radius, 0), min(row + radius, height - 1) + 1)
    columns = range(max(column - radius, 0), min(column + radius, width - 1) + 1)
    return [(y, x) for y in rows for x in columns]


def plain_entropy(logits: Tensor, row: int, column: int, eps: float) -> float:
    weights = [math.exp(value) for value in logits[:, row, column].tolist()]
    shares = [weight / sum(weights) for weight in weights]
    return -sum(p * math.log(p + eps) for p in shares if p > 0)


def plain_impurity(logits: Tensor, row: int, column: int, radius: int, eps: float) -> float:
    _, height, width = logits.shape
    labels = [int(logits[:, y, x].argmax()) for y, x in window(row, column, radius, height, width)]
    shares = [labels.count(c) / len(labels) for c in range(logits.shape[0])]
    return -sum(q * math.log(q + eps) for q in shares if q > 0)


def plain_uncertainty(logits: Tensor, row: int, column: int, radius: int, eps: float) -> float:
    _, height, width = logits.shape
    values = [plain_entropy(logits, y, x, eps) for y, x in window(row, column, radius, height, width)]
    return sum(values) / len(values)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    classes=st.integers(2, 5),
    height=st.integers(5, 9),
    width=st.integers(5, 9),
    radius=st.integers(0, 2),
    eps=st.sampled_from([0.0, F.PUBLIC_EPS]),
)
def test_scores_are_the_plain_formulas(
    seed: int, classes: int, height: int, width: int, radius: int, eps: float
) -> None:
    logits = random_logits(seed, classes, height, width)
    log_c = math.log(classes)
    entropy = F.entropy(logits, eps=eps)[0]
    impurity = F.region_impurity(logits, radius, eps=eps)[0]
    uncertainty = F.region_uncertainty(logits, radius, eps=eps)[0]
    ripu, point = F.ripu(logits, radius, eps)[0], F.ripu_point(logits, radius, eps)[0]
    for row in range(height):
        for column in range(width):
            h = plain_entropy(logits[0], row, column, eps)
            p = plain_impurity(logits[0], row, column, radius, eps)
            u = plain_uncertainty(logits[0], row, column, radius, eps)
            at = (row, column)
            assert entropy[at].item() == pytest.approx(h / log_c, abs=1e-6)
            assert impurity[at].item() == pytest.approx(p / log_c, abs=1e-6)
            assert uncertainty[at].item() == pytest.approx(u / log_c, abs=1e-6)
            assert ripu[at].item() == pytest.approx(p * u / log_c**2, abs=1e-6)
            assert point[at].item() == pytest.approx(p * h, abs=1e-6)


@pytest.mark.parametrize("score", [F.entropy, F.region_impurity, F.region_uncertainty, F.ripu])
def test_range_and_shape(score: Callable[[Tensor], Tensor]) -> None:
    logits = random_logits(1, 7, 20, 30, batch=3).float()
    result = score(logits)
    assert result.shape == (3, 20, 30)
    assert result.dtype == torch.float32
    assert 0 <= result.min() < result.max() <= 1 + 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("score", [F.entropy, F.region_impurity, F.region_uncertainty, F.ripu])
def test_half_precision_logits_score_in_float32(score: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    logits = random_logits(2, 6, 16, 16).to(dtype)
    result = score(logits)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, score(logits.float()))


@pytest.mark.parametrize("score", [F.entropy, F.region_impurity, F.ripu, lambda x: F.ripu_point(x, 3)])
def test_images_of_a_batch_do_not_touch(score: Callable[[Tensor], Tensor]) -> None:
    logits = random_logits(3, 4, 12, 15, batch=3).float()
    together = score(logits)
    alone = torch.cat([score(logits[i : i + 1]) for i in range(3)])
    assert torch.equal(together, alone)


def test_channels_last_gives_the_same() -> None:
    logits = random_logits(4, 5, 14, 18, batch=2).float()
    torch.testing.assert_close(F.ripu(logits.contiguous(memory_format=torch.channels_last)), F.ripu(logits))


def test_pure_window_is_exactly_zero_and_official_eps_ranks_it_by_certainty() -> None:
    logits = torch.zeros(1, 3, 5, 5)
    logits[:, 0] = torch.linspace(1, 4, 25).view(5, 5)
    assert (F.region_impurity(logits) == 0).all()
    official = F.ripu(logits, eps=F.PUBLIC_EPS)[0]
    assert (official < 0).all()
    assert official.argmax() == 24  # among pure windows the least uncertain goes first


def test_large_logits_keep_their_entropy() -> None:
    logits = random_logits(5, 4, 6, 6).float()
    torch.testing.assert_close(F.entropy(logits + 1e4 - 1e4), F.entropy(logits + 1e4), atol=2e-3, rtol=0)


def test_wide_image_keeps_five_digits() -> None:
    logits = random_logits(6, 3, 3, 4096).float()
    entropy = F.entropy(logits)[0].double()
    expected = torch.nn.functional.unfold(entropy[None, None], 3).mean(1)[0]
    torch.testing.assert_close(F.region_uncertainty(logits)[0, 1, 1:-1].double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.randn(3, 4, 5), "floating-point logits"),
        (torch.ones(1, 3, 4, 4, dtype=torch.int64), "floating-point logits"),
        (torch.randn(1, 1, 4, 4), "at least 2 classes"),
    ],
)
@pytest.mark.parametrize("score", [F.entropy, F.region_impurity, F.region_uncertainty, F.ripu, F.ripu_point])
def test_wrong_logits_are_refused(score: Callable[[Tensor], Tensor], logits: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score(logits)


@pytest.mark.parametrize("radius", [-1, 3])
def test_window_must_fit(radius: int) -> None:
    with pytest.raises(ValueError, match="image of 6x9"):
        F.ripu(torch.randn(1, 3, 6, 9), radius)
