"""Scores of squares, regions and images against plain loops over their pixels."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.errors import UserError

REDUCE: dict[str, Callable[[list[float]], float]] = {
    "mean": lambda values: sum(values) / len(values),
    "max": max,
    "sum": sum,
}


def random_scores(seed: int, batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((batch, height, width), generator=generator, dtype=torch.float64) - 1.5


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(7, 10),
    width=st.integers(7, 10),
    radius=st.integers(0, 3),
    reduce=st.sampled_from(list(REDUCE)),
)
def test_square_is_the_plain_loop(seed: int, height: int, width: int, radius: int, reduce: str) -> None:
    scores = random_scores(seed, 2, height, width)
    result = F.pool_square(scores, radius, reduce)
    for row, column in [(y, x) for y in range(height) for x in range(width)]:
        rows = slice(max(row - radius, 0), row + radius + 1)
        columns = slice(max(column - radius, 0), column + radius + 1)
        expected = REDUCE[reduce](scores[1, rows, columns].flatten().tolist())
        assert result[1, row, column].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("reduce", REDUCE)
def test_large_square_keeps_five_digits(reduce: str) -> None:
    scores = random_scores(4, 1, 90, 2000)
    result = F.pool_square(scores.float(), 32, reduce).double()
    torch.testing.assert_close(result, F.pool_square(scores, 32, reduce), atol=1e-5, rtol=1e-5)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), regions=st.integers(1, 6), reduce=st.sampled_from(list(REDUCE)))
def test_regions_are_the_plain_loop(seed: int, regions: int, reduce: str) -> None:
    scores = random_scores(seed, 3, 5, 6)
    ids = torch.randint(-2, regions, scores.shape, generator=torch.Generator().manual_seed(seed + 1))
    result = F.pool_regions(scores, ids, reduce)
    assert result.shape == (3, int(ids.max()) + 1)
    for image in range(3):
        for region in range(result.shape[1]):
            pixels = scores[image][ids[image] == region].tolist()
            expected = REDUCE[reduce](pixels) if pixels else -float("inf")
            assert result[image, region].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("reduce", REDUCE)
def test_order_of_pixels_hardly_matters(reduce: str) -> None:
    scores = random_scores(5, 1, 100, 200).float() + 100
    ids = torch.arange(20000).reshape(1, 100, 200) % 3
    order = torch.randperm(20000, generator=torch.Generator().manual_seed(6))
    mixed, mixed_ids = (values.flatten(1)[:, order].reshape(values.shape) for values in (scores, ids))
    assert torch.equal(F.pool_regions(mixed, mixed_ids, reduce), F.pool_regions(scores, ids, reduce))


def test_a_region_without_pixels_is_never_first() -> None:
    scores, ids = torch.full((2, 1, 3), -4.0), torch.tensor([[[0, 2, 2]], [[-1, -7, -1]]])
    for reduce, last in (("mean", -4.0), ("max", -4.0), ("sum", -8.0)):
        expected = torch.tensor([[-4.0, -torch.inf, last], [-torch.inf] * 3])
        assert torch.equal(F.pool_regions(scores, ids, reduce), expected)
    assert F.pool_regions(scores, torch.full_like(ids, -1)).shape == (2, 0)


@pytest.mark.parametrize("reduce", REDUCE)
def test_image_is_the_plain_loop(reduce: str) -> None:
    scores = random_scores(7, 3, 6, 5)
    expected = [REDUCE[reduce](image.flatten().tolist()) for image in scores]
    assert F.pool_image(scores, reduce).tolist() == pytest.approx(expected, abs=1e-12)


POOLS: list[Callable[..., Tensor]] = [
    lambda scores, reduce="mean": F.pool_square(scores, 1, reduce),
    lambda scores, reduce="mean": F.pool_regions(scores, torch.zeros(scores.shape, dtype=torch.int64), reduce),
    F.pool_image,
]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("reduce", REDUCE)
def test_dtype_strides_and_input_left_alone(pool: Callable[..., Tensor], reduce: str) -> None:
    scores = random_scores(8, 2, 12, 10)
    kept = scores.clone()
    assert pool(scores, reduce).dtype == torch.float64
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        result = pool(scores.to(dtype), reduce)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, pool(scores.to(dtype).double(), reduce).float())
    turned = scores.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(pool(turned, reduce), pool(scores, reduce))
    torch.testing.assert_close(pool(scores[:, ::3, ::2], reduce), pool(scores[:, ::3, ::2].contiguous(), reduce))
    assert torch.equal(scores, kept)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (torch.randn(4, 5), r"scores \(B, H, W\)"),
        (torch.ones(1, 4, 5, dtype=torch.int64), r"scores \(B, H, W\)"),
        (torch.randn(0, 4, 5), "not empty"),
        (torch.tensor([[[1.0, torch.nan, 2.0]] * 3]), "finite scores"),
        (torch.tensor([[[1.0, -torch.inf, 2.0]] * 3]), "finite scores"),
    ],
)
def test_wrong_scores_are_refused(pool: Callable[..., Tensor], scores: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(scores)


@pytest.mark.parametrize("pool", POOLS)
def test_unknown_reduce_is_refused(pool: Callable[..., Tensor]) -> None:
    with pytest.raises(UserError, match="reduce must be 'mean' or 'max' or 'sum', got 'median'"):
        pool(torch.randn(1, 4, 4), "median")


def test_square_must_fit() -> None:
    with pytest.raises(ValueError, match="image of 4x9"):
        F.pool_square(torch.randn(1, 4, 9), 2)


@pytest.mark.parametrize("regions", [torch.zeros(1, 4, 5), torch.zeros(1, 5, 4, dtype=torch.int64)])
def test_wrong_regions_are_refused(regions: Tensor) -> None:
    with pytest.raises(ValueError, match=r"regions as int64 \(1, 4, 5\)"):
        F.pool_regions(torch.randn(1, 4, 5), regions)
