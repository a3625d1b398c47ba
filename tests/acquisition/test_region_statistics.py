"""What the network says of regions, against loops over single pixels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import Square, Superpixel
from ripu_lightning.acquisition.region_statistics import Members, dominant_classes, mean_features, mean_over

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))


def members(seed: int, shape: tuple[int, int], radius: int, count: int) -> Members:
    """Of squares that may overlap and be clipped, in no order."""
    generator = torch.Generator().manual_seed(seed)
    return Square(radius).members(torch.randint(0, shape[0] * shape[1], (count,), generator=generator), shape)


def pixels_of(members: Members, row: int, width: int) -> list[tuple[int, int]]:
    return [divmod(pixel, width) for pixel, of in zip(*(each.tolist() for each in members), strict=True) if of == row]


def drawn(seed: int, depth: int, shape: tuple[int, int]) -> Tensor:
    return torch.randn((depth, *shape), generator=torch.Generator().manual_seed(seed + 1))


@settings(max_examples=50)
@given(
    seed=st.integers(0, 1000),
    shape=SHAPES,
    radius=st.integers(0, 2),
    count=st.integers(0, 6),
    classes=st.integers(1, 4),
)
def test_dominant_classes(seed: int, shape: tuple[int, int], radius: int, count: int, classes: int) -> None:
    logits, of = drawn(seed, classes, shape), members(seed, shape, radius, count)
    expected = []
    for row in range(count):
        votes = [0] * classes
        for y, x in pixels_of(of, row, shape[1]):
            said = logits[:, y, x].tolist()
            votes[said.index(max(said))] += 1
        expected.append(votes.index(max(votes)))
    found = dominant_classes(logits, of, count)
    assert found.dtype == torch.int16
    assert found.tolist() == expected


def test_the_lower_class_of_equals_is_dominant() -> None:
    logits = torch.tensor([[[0.1, 0.2]], [[0.3, 0.9]], [[0.5, 0.4]]])
    assert dominant_classes(logits, (torch.tensor([0, 1]), torch.tensor([0, 0])), 1).tolist() == [1]


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), shape=SHAPES, radius=st.integers(0, 2), count=st.integers(0, 6))
def test_mean_over(seed: int, shape: tuple[int, int], radius: int, count: int) -> None:
    values, of = drawn(seed, 3, shape), members(seed, shape, radius, count)
    found = mean_over(values, of, count)
    assert (found.dtype, found.shape) == (torch.float32, (count, 3))
    for row in range(count):
        pixels = pixels_of(of, row, shape[1])
        for name in range(3):
            expected = sum(float(values[name, y, x]) for y, x in pixels) / len(pixels)
            assert float(found[row, name]) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), shape=SHAPES, coarse=SHAPES, radius=st.integers(0, 3), count=st.integers(0, 6))
def test_mean_features_of_the_cells_that_pixels_lie_in(
    seed: int, shape: tuple[int, int], coarse: tuple[int, int], radius: int, count: int
) -> None:
    features, of = drawn(seed, 2, coarse), members(seed, shape, radius, count)
    found = mean_features(features, of, count, shape)
    assert (found.dtype, found.shape) == (torch.float32, (count, 2))
    for row in range(count):
        pixels = pixels_of(of, row, shape[1])
        cells = [(y * coarse[0] // shape[0], x * coarse[1] // shape[1]) for y, x in pixels]
        for name in range(2):
            expected = sum(float(features[name, y, x]) for y, x in cells) / len(cells)
            assert float(found[row, name]) == pytest.approx(expected, abs=1e-6)


def test_regions_of_any_shape_in_half_precision() -> None:
    generator = torch.Generator().manual_seed(3)
    regions = torch.randint(0, 5, (8, 12), generator=generator)
    region_type = Superpixel()
    order = torch.tensor([3, 0, 4])
    of = region_type.members(region_type.positions(order, regions), (8, 12), regions)
    features = torch.randn((2, 4, 6), generator=generator).half()
    upsampled = features.float().repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    expected = torch.stack([upsampled[:, regions == number].mean(dim=1) for number in order.tolist()])
    torch.testing.assert_close(mean_features(features, of, 3, (8, 12)), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(mean_over(upsampled.half(), of, 3), expected, atol=1e-6, rtol=1e-6)
