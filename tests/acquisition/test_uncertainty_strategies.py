"""Strategies that are a score and nothing more, against plain loops over their formulas."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import Pixel, ScoreInputs, get_strategy
from ripu_lightning.errors import UserError

CLASSES, HEIGHT, WIDTH = 4, 7, 8

seeds = given(seed=st.integers(0, 10_000))
few_examples = settings(max_examples=8)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def drawn(seed: int, samples: int = 0) -> ScoreInputs:
    """Two images with features at a third of their size, some of one class and some of many."""
    logits = 2 * draw(seed, 2, CLASSES, HEIGHT, WIDTH)
    return ScoreInputs(
        logits,
        ["first", "second"],
        round=1,
        seed=0,
        features=draw(seed + 1, 2, 5, 3, 4),
        samples=[draw(seed + 2 + number, *logits.shape) for number in range(samples)] or None,
    )


def shares(values: list[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def nats(parts: list[float]) -> float:
    return -sum(p * math.log(p) for p in parts if p > 0)


def square(row: int, column: int, radius: int) -> list[tuple[int, int]]:
    return [
        (y, x)
        for y in range(row - radius, row + radius + 1)
        for x in range(column - radius, column + radius + 1)
        if 0 <= y < HEIGHT and 0 <= x < WIDTH
    ]


def at(logits: Tensor, row: int, column: int) -> list[float]:
    return logits[:, row, column].tolist()


def plain_entropy(logits: Tensor, row: int, column: int) -> float:
    return nats(shares(at(logits, row, column)))


def plain_least_confidence(logits: Tensor, row: int, column: int) -> float:
    return (1 - max(shares(at(logits, row, column)))) * CLASSES / (CLASSES - 1)


def plain_margin(logits: Tensor, row: int, column: int) -> float:
    first, second = sorted(shares(at(logits, row, column)), reverse=True)[:2]
    return 1 - (first - second)


def plain_impurity(logits: Tensor, row: int, column: int, radius: int) -> float:
    values = [at(logits, *pixel) for pixel in square(row, column, radius)]
    labels = [value.index(max(value)) for value in values]
    return nats([labels.count(name) / len(labels) for name in range(CLASSES)])


def plain_uncertainty(logits: Tensor, row: int, column: int, radius: int) -> float:
    values = [plain_entropy(logits, *pixel) for pixel in square(row, column, radius)]
    return sum(values) / len(values)


def unit_range(values: list[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]


LOG = math.log(CLASSES)
# name, options -> the score of a pixel, from (logits (C, H, W), row, column)
FORMULAS: list[tuple[str, dict, Callable[[Tensor, int, int], float]]] = [
    ("entropy", {"radius": 2}, lambda logits, y, x: plain_entropy(logits, y, x) / LOG),
    ("least_confidence", {"radius": 2}, plain_least_confidence),
    ("margin", {"radius": 2}, plain_margin),
    ("pixelpick", {}, plain_margin),
    ("impurity", {}, lambda logits, y, x: plain_impurity(logits, y, x, 1) / LOG),
    ("impurity", {"radius": 2}, lambda logits, y, x: plain_impurity(logits, y, x, 2) / LOG),
    ("uncertainty", {}, lambda logits, y, x: plain_uncertainty(logits, y, x, 1) / LOG),
    ("uncertainty", {"radius": 3}, lambda logits, y, x: plain_uncertainty(logits, y, x, 3) / LOG),
    (
        "ripu",
        {"radius": 2},
        lambda logits, y, x: plain_impurity(logits, y, x, 2) * plain_uncertainty(logits, y, x, 2) / LOG**2,
    ),
    (
        "ripu_point",
        {"radius": 2},
        lambda logits, y, x: plain_impurity(logits, y, x, 2) * plain_entropy(logits, y, x),
    ),
]


@pytest.mark.parametrize(("name", "options", "formula"), FORMULAS)
@few_examples
@seeds
def test_score_is_the_plain_formula(
    name: str, options: dict, formula: Callable[[Tensor, int, int], float], seed: int
) -> None:
    inputs = drawn(seed)
    result = get_strategy(name, **options).score(inputs)
    assert result.shape == (2, HEIGHT, WIDTH)
    expected = [[[formula(image, y, x) for x in range(WIDTH)] for y in range(HEIGHT)] for image in inputs.logits]
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", ["impurity", "uncertainty", "ripu", "ripu_point"])
def test_eps_and_radius_of_the_score_are_passed_on_with_another_geometry(name: str) -> None:
    inputs = drawn(1)
    own, other = get_strategy(name, radius=2), get_strategy(name, radius=2, region_type=Pixel())
    assert torch.equal(other.score(inputs), own.score(inputs))
    assert (other.region_type.name, other.region_type.exclusion) == ("pixel", 0)
    assert not torch.allclose(get_strategy(name, radius=2, eps=0.1).score(inputs), own.score(inputs), atol=1e-3)


@pytest.mark.parametrize("samples", [1, 3])
@few_examples
@seeds
def test_bald_is_the_mutual_information(samples: int, seed: int) -> None:
    inputs = drawn(seed, samples)
    result = get_strategy("bald").score(inputs)
    for image, row, column in [(i, y, x) for i in range(2) for y in range(HEIGHT) for x in range(WIDTH)]:
        predicted = [shares(at(sample[image], row, column)) for sample in inputs.samples or []]
        mean = [sum(values) / samples for values in zip(*predicted, strict=True)]
        expected = nats(mean) - sum(map(nats, predicted)) / samples
        assert result[image, row, column].item() == pytest.approx(expected / LOG, abs=1e-9)


def test_bald_takes_samples_one_by_one() -> None:
    inputs = drawn(2, samples=3)
    once = ScoreInputs(inputs.logits, inputs.image_ids, 1, 0, samples=iter(list(inputs.samples or [])))
    assert torch.equal(get_strategy("bald").score(once), get_strategy("bald").score(inputs))


def test_bald_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="bald: expected samples in the inputs, got none"):
        get_strategy("bald").score(drawn(1))
    with pytest.raises(UserError, match=r"bald: samples .* got 0"):
        get_strategy("bald", samples=0)
    assert get_strategy("bald", samples=7).samples == 7


def plain_radii(features: Tensor, curvature: float) -> list[list[float]]:
    """Exponential map, limit and distance, cell by cell of ``(D, h, w)``."""
    root = math.sqrt(curvature)
    rows = []
    for cells in features.permute(1, 2, 0).tolist():
        norms = [math.sqrt(sum(value * value for value in vector)) for vector in cells]
        inside = [min(math.tanh(root * norm) / root, (1 - 1e-3) / root) for norm in norms]
        rows.append([2 / root * math.atanh(root * norm) for norm in inside])
    return rows


def plain_bilinear(cells: list[list[float]], row: int, column: int) -> float:
    """The value between four cells, corners on corners."""
    y, x = row * (len(cells) - 1) / (HEIGHT - 1), column * (len(cells[0]) - 1) / (WIDTH - 1)
    top, left = min(int(y), len(cells) - 2), min(int(x), len(cells[0]) - 2)
    y, x = y - top, x - left
    upper = (1 - x) * cells[top][left] + x * cells[top][left + 1]
    lower = (1 - x) * cells[top + 1][left] + x * cells[top + 1][left + 1]
    return (1 - y) * upper + y * lower


@pytest.mark.parametrize(("curvature", "radius"), [(1.0, 1), (0.3, 2), (4.0, 1)])
@few_examples
@seeds
def test_halo_is_the_plain_chain(curvature: float, radius: int, seed: int) -> None:
    inputs = drawn(seed)
    result = get_strategy("halo", curvature=curvature, radius=radius).score(inputs)
    pixels = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)]
    for image in range(2):
        cells = plain_radii((inputs.features if inputs.features is not None else draw(0))[image], curvature)
        radii = [plain_bilinear(cells, *pixel) for pixel in pixels]
        assume(max(radii) - min(radii) > 1e-6)  # or their unit range is made of rounding
        depth = unit_range(radii)
        doubt = unit_range([plain_uncertainty(inputs.logits[image], *pixel, radius) for pixel in pixels])
        expected = [a * b for a, b in zip(depth, doubt, strict=True)]
        assert result[image].reshape(-1).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_halo_goes_by_uncertainty_where_all_radii_are_equal(scale: float) -> None:
    """Features that are the same everywhere, and features that all lie beyond the limit."""
    inputs = drawn(3)
    features = torch.full((2, 5, 3, 4), 0.7) + scale * draw(4, 2, 5, 3, 4)
    result = get_strategy("halo").score(ScoreInputs(inputs.logits, inputs.image_ids, 1, 0, features=features))
    for image in range(2):
        doubt = unit_range(get_strategy("uncertainty").score(inputs)[image].reshape(-1).tolist())
        assert result[image].reshape(-1).tolist() == pytest.approx([value / 2 for value in doubt], abs=1e-6)


def test_halo_goes_by_the_radius_where_all_predictions_are_equal() -> None:
    inputs = drawn(3)
    logits = draw(1, 1, CLASSES, 1, 1).expand(inputs.logits.shape)
    result = get_strategy("halo").score(ScoreInputs(logits, inputs.image_ids, 1, 0, features=inputs.features))
    assert result.amax(dim=(1, 2)).tolist() == [0.5, 0.5]
    assert result.amin(dim=(1, 2)).tolist() == [0, 0]


def test_halo_says_what_is_missing_or_wrong() -> None:
    bare = ScoreInputs(drawn(1).logits, ["first", "second"], 1, 0)
    with pytest.raises(ValueError, match="halo: expected features in the inputs, got none"):
        get_strategy("halo").score(bare)
    with pytest.raises(UserError, match=r"halo: curvature must be a number > 0, got -1"):
        get_strategy("halo", curvature=-1.0).score(drawn(1))
