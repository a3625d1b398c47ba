"""Scores lowered where void is expected: the regression against an optimiser, the score against its formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from ripu_lightning.acquisition import Answered, AvoidVoid, Pixel, Scored, ScoreInputs, Square, get_strategy
from ripu_lightning.acquisition.avoid_void import fit_logistic
from ripu_lightning.acquisition.region_statistics import mean_features
from ripu_lightning.errors import UserError
from ripu_lightning.testing import check_strategy


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def strategy_on(region_type: Square) -> AvoidVoid:
    """The first logit is the score."""
    return AvoidVoid(Scored("given", lambda inputs: inputs.logits[:, 0], region_type))


def inputs(seed: int, answers: Answered | None = None, stride: int = 1) -> ScoreInputs:
    """An image of 8x12 pixels; its features are not scaled alike."""
    logits = torch.rand((1, 3, 8, 12), generator=drawn(seed))
    features = torch.randn((1, 2, 8 // stride, 12 // stride), generator=drawn(seed + 1))
    features *= torch.tensor([1.0, 30.0])[:, None, None]
    return ScoreInputs(logits, [f"image_{seed}"], round=2, seed=0, features=features, answers=answers)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), ridge=st.sampled_from([0.3, 1.0, 20.0]), share=st.sampled_from([0.05, 0.5]))
def test_the_regression_is_the_least_of_its_loss(seed: int, ridge: float, share: float) -> None:
    features = torch.randn((40, 3), generator=drawn(seed), dtype=torch.float64) * torch.tensor([1, 50, 0.1]) + 5
    targets = (torch.rand(40, generator=drawn(seed + 1)) < share).double()
    targets[:3] = torch.tensor([0.0, 1.0, 0.4])
    scaled = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)

    def loss(weights: list[float]) -> float:
        total = ridge / 2 * sum(weight**2 for weight in weights[1:])
        for row, target in zip(scaled.tolist(), targets.tolist(), strict=True):
            z = weights[0] + sum(weight * value for weight, value in zip(weights[1:], row, strict=True))
            total += math.log1p(math.exp(-abs(z))) + max(z, 0) - target * z
        return total

    best = minimize(loss, [0.0] * 4, tol=1e-10).x
    found = fit_logistic(features, targets, ridge)
    expected = torch.tensor(best[0]) + scaled @ torch.tensor(best[1:])
    torch.testing.assert_close(found[0] + features @ found[1:], expected, atol=1e-3, rtol=1e-3)


def test_the_score_is_multiplied_by_the_probability_of_a_class() -> None:
    strategy, image = strategy_on(Pixel()), inputs(3)
    rows = torch.cat([torch.rand((60, 1), generator=drawn(1)).round(), torch.randn((60, 2), generator=drawn(2))], dim=1)
    rows[:, 1] += 2 * rows[:, 0]
    strategy.fit([], [rows[:25], rows[25:]], seed=0)
    weights = fit_logistic(rows[:, 1:], rows[:, 0]).tolist()
    assert image.features is not None
    found = strategy.score(image)
    for row in range(8):
        for column in range(12):
            first, second = image.features[0, :, row, column].tolist()
            void = sigmoid(weights[0] + weights[1] * first + weights[2] * second)
            expected = float(image.logits[0, 0, row, column]) * (1 - void)
            assert float(found[0, row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_coarse_probabilities_are_resized_and_stay_shares() -> None:
    strategy, image = strategy_on(Pixel()), inputs(3, stride=4)
    strategy.fit([], [torch.tensor([[1.0, 1.0, 0.0], [0.0, -1.0, 0.0]])], seed=0)
    ratio = strategy.score(image)[0] / image.logits[0, 0]
    assert image.features is not None
    corner = 1 - torch.sigmoid(strategy.weights[0] + strategy.weights[1] * image.features[0, 0, 0, 0])
    assert float(ratio[0, 0]) == pytest.approx(float(corner), rel=1e-5)
    assert 0 < float(ratio.min()) < float(ratio.max()) < 1


def test_without_void_answers_the_score_is_unchanged() -> None:
    for rows in (torch.zeros((0, 3)), torch.zeros((5, 3)), torch.tensor([[1.0, 2.0, 3.0]])):
        strategy, image = strategy_on(Pixel()), inputs(1)
        strategy.fit([], [rows], seed=0)
        assert torch.equal(strategy.score(image), image.logits[:, 0])
        assert strategy.state_dict() == {}


def test_summaries_are_the_features_and_void_shares_of_earlier_queries() -> None:
    strategy = strategy_on(Square(1))
    positions, void = torch.tensor([0, 30, 95]), torch.tensor([0.25, 0.0, 1.0], dtype=torch.float64)
    image = inputs(4, Answered(positions, void), stride=2)
    found = strategy.summarize(image)
    assert image.features is not None
    members = Square(1).members(positions, (8, 12))
    expected = mean_features(image.features[0], members, 3, (8, 12))
    torch.testing.assert_close(found, torch.cat((void[:, None].float(), expected), dim=1))
    assert strategy.summarize(inputs(4)).shape == (0, 3)


def test_an_image_gives_64_of_its_queries_evenly_spaced() -> None:
    positions = torch.arange(96)
    found = strategy_on(Pixel()).summarize(inputs(4, Answered(positions, positions / 100)))
    assert found[:, 0].tolist() == pytest.approx([number * 96 // 64 / 100 for number in range(64)])


def test_void_is_learned_from_answers_and_left_out() -> None:
    """Pixels with a high first feature are void: after twenty answers an image, none is among the best."""
    strategy, images = strategy_on(Pixel()), []

    def is_void(image: ScoreInputs) -> Tensor:
        assert image.features is not None
        return image.features[0, 0].flatten() > 0.5

    for seed in range(6):
        queried = torch.randperm(96, generator=drawn(seed))[:20]
        bare = inputs(seed)
        images.append(inputs(seed, Answered(queried, is_void(bare)[queried].double())))
    strategy.fit([], [strategy.summarize(image) for image in images], seed=0)
    fresh = inputs(99)
    best = strategy.score(fresh).flatten().topk(20).indices
    plain = fresh.logits[0, 0].flatten().topk(20).indices
    assert int(is_void(fresh)[best].sum()) <= 1 < int(is_void(fresh)[plain].sum())
    restored = strategy_on(Pixel())
    restored.load_state_dict(strategy.state_dict())
    assert torch.equal(restored.score(fresh), strategy.score(fresh))


def test_it_conforms() -> None:
    check_strategy(lambda: get_strategy("ripu", avoid_void=True))


def test_strategies_with_statistics_of_their_own_are_refused() -> None:
    with pytest.raises(UserError, match=r"mulactseg: avoid_void works with scores of one image"):
        get_strategy("mulactseg", avoid_void=True)
