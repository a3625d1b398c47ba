"""RIPU's scores against plain per-pixel loops over the formulas, and their properties."""

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


@settings(max_examples=25)
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


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Mean over the clipped square, ``(B, C, H, W)``, by torch's own pooling in float64."""
    for size, padding in (((2 * radius + 1, 1), (radius, 0)), ((1, 2 * radius + 1), (0, radius))):
        values = torch.nn.functional.avg_pool2d(values.double(), size, 1, padding, count_include_pad=False)
    return values


def pooled_impurity(logits: Tensor, radius: int) -> Tensor:
    onehot = torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).permute(0, 3, 1, 2)
    impurity: Tensor = torch.special.entr(box_mean(onehot, radius)).sum(dim=1)
    return impurity


# Where the counts outgrow 8 bits (289 in a square), 16 bits (33489) and 8 bits in a column (257).
@pytest.mark.parametrize("radius", [7, 8, 32, 90, 91, 127, 128])
def test_counts_of_large_squares_do_not_overflow(radius: int) -> None:
    logits = random_logits(11, 3, 2 * radius + 3, 2 * radius + 4).float()
    logits[:, 0] += 12  # one class nearly fills the square
    result = F.region_impurity(logits, radius, normalize=False)
    torch.testing.assert_close(result.double(), pooled_impurity(logits, radius), atol=1e-5, rtol=0)


@pytest.mark.parametrize("classes", [255, 256, 257])
def test_many_classes(classes: int) -> None:
    logits = random_logits(12, classes, 9, 8).float()
    logits[0, classes - 1, :3] = logits[0, 0, 6:] = 50
    result = F.region_impurity(logits, 2, normalize=False)
    torch.testing.assert_close(result.double(), pooled_impurity(logits, 2), atol=1e-5, rtol=0)


# More rows than a tile holds: 40 classes are read in three tiles, squares of 1100 rows are summed in two.
@pytest.mark.parametrize(("classes", "height", "width", "radius"), [(40, 70, 1000, 3), (2, 1100, 520, 32)])
def test_tiles_do_not_show(classes: int, height: int, width: int, radius: int) -> None:
    logits = random_logits(13, classes, height, width).float()
    chances = logits.double().log_softmax(dim=1)
    entropy = -(chances.exp() * chances).sum(dim=1)
    impurity, uncertainty = pooled_impurity(logits, radius), box_mean(entropy[:, None], radius)[:, 0]
    log_c = math.log(classes)
    torch.testing.assert_close(F.entropy(logits).double(), entropy / log_c, atol=1e-5, rtol=0)
    torch.testing.assert_close(F.region_uncertainty(logits, radius).double(), uncertainty / log_c, atol=1e-5, rtol=0)
    torch.testing.assert_close(F.ripu(logits, radius).double(), impurity * uncertainty / log_c**2, atol=1e-5, rtol=0)
    torch.testing.assert_close(F.ripu_point(logits, radius).double(), impurity * entropy, atol=5e-5, rtol=0)


def test_of_equal_logits_the_first_class_is_predicted() -> None:
    logits = torch.full((1, 3, 3, 5), -2.0)
    logits[:, 1, :, :2] = logits[:, 2, :, :2] = 1.5
    logits[:, 1, :, 2:] = 4.0
    logits[:, 0, :, 4] = 4.0
    mixed = (F.region_impurity(logits) > 0)[0, 1]
    assert mixed.tolist() == [False, False, False, True, True]


def test_pure_window_is_exactly_zero_and_official_eps_ranks_it_by_certainty() -> None:
    logits = torch.zeros(1, 3, 5, 5)
    logits[:, 0] = torch.linspace(1, 4, 25).view(5, 5)
    assert (F.region_impurity(logits) == 0).all()
    official = F.ripu(logits, eps=F.PUBLIC_EPS)[0]
    assert (official < 0).all()
    assert official.argmax() == 24  # among pure windows the least uncertain goes first


def test_wide_image_keeps_five_digits() -> None:
    logits = random_logits(6, 3, 3, 4096).float()
    entropy = F.entropy(logits)[0].double()
    expected = torch.nn.functional.unfold(entropy[None, None], 3).mean(1)[0]
    torch.testing.assert_close(F.region_uncertainty(logits)[0, 1, 1:-1].double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("radius", [-1, 3])
@pytest.mark.parametrize("score", [F.region_impurity, F.region_uncertainty, F.ripu, F.ripu_point])
def test_window_must_fit(score: Callable[[Tensor, int], Tensor], radius: int) -> None:
    with pytest.raises(ValueError, match="image of 6x9"):
        score(torch.randn(1, 3, 6, 9), radius)
