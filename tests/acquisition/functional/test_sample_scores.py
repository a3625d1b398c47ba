"""Scores of several predictions against plain Python over the formulas, and how the samples are taken."""

import math
import weakref
from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import functional as F


def random_samples(seed: int, count: int, classes: int, height: int = 3, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, 2, classes, height, width), generator=generator, dtype=torch.float64) * 3


def plain_shares(values: list[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def plain_entropy(shares: list[float]) -> float:
    return -sum(p * math.log(p) for p in shares)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), count=st.integers(1, 4), classes=st.integers(2, 5))
def test_scores_are_the_plain_formulas(seed: int, count: int, classes: int) -> None:
    samples = random_samples(seed, count, classes)
    predictive, disagreement = F.predictive_entropy(samples), F.bald(samples)
    for image, row, column in [(i, y, x) for i in range(2) for y in range(3) for x in range(4)]:
        shares = [plain_shares(sample[image, :, row, column].tolist()) for sample in samples]
        mean = [sum(column) / count for column in zip(*shares, strict=True)]
        h, expected = plain_entropy(mean), sum(map(plain_entropy, shares)) / count
        at = (image, row, column)
        assert predictive[at].item() == pytest.approx(h / math.log(classes), abs=1e-9)
        assert disagreement[at].item() == pytest.approx((h - expected) / math.log(classes), abs=1e-9)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), classes=st.integers(2, 5))
def test_mirror_disagreement_is_the_jensen_shannon_divergence(seed: int, classes: int) -> None:
    straight, mirrored = random_samples(seed, 2, classes)
    result = F.mirror_disagreement(straight, mirrored)
    for row, column in [(y, x) for y in range(3) for x in range(4)]:
        p = plain_shares(straight[1, :, row, column].tolist())
        q = plain_shares(mirrored[1, :, row, 3 - column].tolist())
        kl = [sum(a * math.log(a / ((a + b) / 2)) for a, b in zip(*pair, strict=True)) for pair in ((p, q), (q, p))]
        assert result[1, row, column].item() == pytest.approx(sum(kl) / 2 / math.log(2), abs=1e-9)


def test_in_nats() -> None:
    samples = random_samples(1, 3, 4)
    for score in (F.predictive_entropy, F.bald):
        torch.testing.assert_close(score(samples, normalize=False), score(samples) * math.log(4))


def test_one_sample_is_its_entropy_and_does_not_disagree() -> None:
    samples = random_samples(2, 1, 5).float()
    torch.testing.assert_close(F.predictive_entropy(samples), F.entropy(samples[0]))
    assert 0 <= F.bald(samples).min() <= F.bald(samples).max() < 1e-6


def test_rounding_does_not_make_disagreement_negative() -> None:
    sample = random_samples(4, 1, 5, 30, 30)[0].float()
    assert F.bald([sample] * 7).min() >= 0


def test_disagreement_reaches_one() -> None:
    certain = torch.full((3, 1, 3, 2, 2), -40.0)
    for index in range(3):
        certain[index, :, index] = 40
    assert F.bald(certain) == pytest.approx(torch.ones(1, 2, 2))
    assert F.mirror_disagreement(certain[0], certain[1]) == pytest.approx(torch.ones(1, 2, 2))
    assert (F.mirror_disagreement(certain[0], certain[0]) == 0).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), order=st.permutations(range(4)))
def test_order_of_samples_does_not_matter(seed: int, order: list[int]) -> None:
    samples = random_samples(seed, 4, 3)
    torch.testing.assert_close(F.bald(samples[order]), F.bald(samples), atol=1e-12, rtol=0)


@pytest.mark.parametrize("score", [F.predictive_entropy, F.bald])
def test_samples_are_taken_one_at_a_time_from_any_iterable(score: Callable[[Iterable[Tensor]], Tensor]) -> None:
    samples = random_samples(3, 5, 4)
    alive: list[weakref.ref[Tensor]] = []

    def draw() -> Iterator[Tensor]:
        for sample in samples:
            assert sum(reference() is not None for reference in alive) <= 1
            drawn = sample.clone()
            alive.append(weakref.ref(drawn))
            yield drawn
            del drawn

    assert torch.equal(score(draw()), score(samples))
    assert torch.equal(score(tuple(samples)), score(samples))
    assert len(alive) == 5


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "at least one sample"),
        (torch.randn(0, 1, 3, 4, 4), "at least one sample"),
        (torch.randn(1, 3, 4, 4), r"samples \(T, B, C, H, W\)"),
        ([torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 5)], r"shape \(1, 3, 4, 4\), got one of \(1, 3, 4, 5\)"),
        ([torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 4)], r"shape \(2, 3, 4, 4\), got one of \(1, 3, 4, 4\)"),
        ([torch.randn(3, 4, 4)], r"logits \(B, C, H, W\)"),
    ],
)
@pytest.mark.parametrize("score", [F.predictive_entropy, F.bald])
def test_wrong_samples_are_refused(
    score: Callable[[Iterable[Tensor]], Tensor], samples: Iterable[Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(samples)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (2, 3, 4, 6), (3, 4, 6)])
def test_mirrored_must_have_the_same_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        F.mirror_disagreement(torch.randn(1, 3, 4, 6), torch.randn(shape))
