"""The hyperbolic radius against the exponential map and the distance, written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.errors import UserError


def random_features(seed: int, scale: float) -> Tensor:
    return torch.randn((2, 5, 3, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def plain_radius(vector: list[float], curvature: float) -> float:
    root = math.sqrt(curvature)
    length = math.sqrt(sum(value * value for value in vector))
    point = [math.tanh(root * length) * value / (root * length) for value in vector]
    norm = math.sqrt(sum(value * value for value in point))
    return 2 / root * math.atanh(root * min(norm, (1 - 1e-3) / root))


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([0.01, 0.3, 1.0, 4.0]), curvature=st.floats(0.1, 5.0))
def test_radius_is_the_plain_chain(seed: int, scale: float, curvature: float) -> None:
    features = random_features(seed, scale)
    result = F.poincare_radius(features, curvature)
    for row, column in [(y, x) for y in range(3) for x in range(4)]:
        expected = plain_radius(features[1, :, row, column].tolist(), curvature)
        assert result[1, row, column].item() == pytest.approx(expected, rel=1e-9)


def test_far_features_stop_at_the_border() -> None:
    far = F.poincare_radius(random_features(1, 1e6), curvature=4.0)
    assert far == pytest.approx(torch.full_like(far, math.atanh(0.999)))


def test_the_origin_has_radius_zero_and_longer_is_farther() -> None:
    features = torch.linspace(0, 2, 9).reshape(1, 1, 1, 9)
    result = F.poincare_radius(features)[0, 0]
    assert result[0] == 0
    assert (result.diff() > 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtype_and_strides(dtype: torch.dtype) -> None:
    features = random_features(2, 0.5).to(dtype)
    result = F.poincare_radius(features)
    assert result.shape == (2, 3, 4)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, F.poincare_radius(features.double()).float())
    torch.testing.assert_close(F.poincare_radius(features.contiguous(memory_format=torch.channels_last)), result)


def test_runs_in_one_graph() -> None:
    features = random_features(3, 0.5)
    compiled = torch.compile(F.poincare_radius, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(features), F.poincare_radius(features))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.randn(3, 4, 5), r"features \(B, D, h, w\)"),
        (torch.ones(1, 3, 4, 5, dtype=torch.int32), r"features \(B, D, h, w\)"),
        (torch.randn(1, 0, 4, 5), "not empty"),
        (torch.full((1, 3, 4, 5), torch.nan), "finite features"),
        (torch.full((1, 3, 4, 5), -torch.inf), "finite features"),
    ],
)
def test_wrong_features_are_refused(features: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        F.poincare_radius(features)


@pytest.mark.parametrize("curvature", [0.0, -1.0, math.nan, math.inf])
def test_wrong_curvature_is_refused(curvature: float) -> None:
    with pytest.raises(UserError, match="poincare_radius: curvature must be a number > 0"):
        F.poincare_radius(torch.randn(1, 3, 4, 5), curvature)
