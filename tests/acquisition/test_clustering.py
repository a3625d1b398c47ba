"""Clustering and density against plain loops over the formulas, and their properties."""

import math
from collections.abc import Callable
from itertools import pairwise
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import clustering
from ripu_lightning.acquisition.clustering import TINY_VARIANCE, GaussianMixture, k_centre, k_means

EMPTIED = [17, 19, 14, 22, 13, 23, 0, 8, 29, 12, 7, 26, 8, 8, 26, 14, 19]
"""With 8 clusters and seed 22929 a cluster loses all its points on the way."""


def normal(seed: int, count: int, features: int) -> Tensor:
    return torch.randn((count, features), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def on_grid(seed: int, count: int, features: int, levels: int) -> Tensor:
    """Few levels: many equal points and equal distances."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-levels, levels, (count, features), generator=generator).double() + 50


def squared(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def nearest(point: list[float], centres: list[list[float]]) -> int:
    distances = [squared(point, centre) for centre in centres]
    return distances.index(min(distances))


def objective(points: Tensor, centres: Tensor) -> float:
    return sum(min(squared(point, centre) for centre in centres.tolist()) for point in points.tolist())


def plain_k_centre(points: list[list[float]], count: int, start: list[list[float]]) -> list[int]:
    picks: list[int] = []
    while len(picks) < min(count, len(points)):
        best, farthest = -1, -1.0
        for n, point in enumerate(points):
            centres = start + [points[pick] for pick in picks]
            distance = min((squared(point, centre) for centre in centres), default=math.inf)
            if n not in picks and distance > farthest:
                best, farthest = n, distance
        picks.append(best)
    return picks


def plain_lloyd_step(points: list[list[float]], centres: list[list[float]]) -> list[list[float]]:
    members: list[list[list[float]]] = [[] for _ in centres]
    for point in points:
        members[nearest(point, centres)].append(point)
    means = [[sum(values) / len(own) for values in zip(*own, strict=True)] for own in members]
    for k, own in enumerate(members):
        if not own:
            others = [mean for mean in means if mean]
            means[k] = max(points, key=lambda point: min(squared(point, mean) for mean in others))
    return means


def plain_densities(point: list[float], mixture: GaussianMixture) -> list[float]:
    """``w_k N_k(x)`` of every component."""
    result = []
    for log_weight, mean, variance in zip(*(field.tolist() for field in mixture.state_dict().values()), strict=True):
        density = math.exp(log_weight)
        for x, m, v in zip(point, mean, variance, strict=True):
            density *= math.exp(-((x - m) ** 2) / (2 * v)) / math.sqrt(2 * math.pi * v)
        result.append(density)
    return result


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(0, 12),
    features=st.integers(1, 3),
    levels=st.sampled_from([1, 2, 100]),
    count=st.integers(0, 14),
    centres=st.integers(0, 4),
    block=st.sampled_from([1, 2, 5, 128]),
    chunk=st.sampled_from([1, 3, 1024]),
)
def test_k_centre_is_the_double_loop(
    seed: int, size: int, features: int, levels: int, count: int, centres: int, block: int, chunk: int
) -> None:
    # Far from the origin: distances by way of |x|^2 would not see which points are equal.
    points, start = (on_grid(seed + k, n, features, levels) + 1e8 for k, n in enumerate((size, centres)))
    with mock.patch.multiple(clustering, BLOCK=block, CHUNK=chunk):
        picks = k_centre(points, count, start)
    assert picks == plain_k_centre(points.tolist(), count, start.tolist())
    assert len(set(picks)) == len(picks) == min(count, size)


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), features=st.sampled_from([1, 7, 64]), equal=st.integers(0, 20))
def test_k_centre_of_ordinary_features_is_the_loop_over_all_points(seed: int, features: int, equal: int) -> None:
    points, start = normal(seed, 60, features), normal(seed + 1, 5, features)
    points[:equal], points[30 : 30 + equal] = start[0], points[50:51]
    # Differences: distances by way of a product would differ between equal points.
    distance, expected = (points[:, None] - start).norm(dim=2).amin(dim=1), []
    for _ in range(40):
        expected.append(max((n for n in range(60) if n not in expected), key=lambda n: (float(distance[n]), -n)))
        distance = torch.minimum(distance, (points - points[expected[-1]]).norm(dim=1))
    with mock.patch.multiple(clustering, BLOCK=8, CHUNK=16):
        assert k_centre(points, 40, start) == expected


def test_k_centre_without_start_begins_with_the_first() -> None:
    points = torch.tensor([[5.0], [0.0], [11.0], [6.0]])
    assert k_centre(points, 3, points[:0]) == [0, 2, 1]


def test_k_centre_picks_every_equal_point_once() -> None:
    points = torch.full((4, 3), 0.1)
    assert k_centre(points, 9, points[:1]) == [0, 1, 2, 3]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 30),
    features=st.integers(1, 3),
    clusters=st.integers(1, 6),
    iterations=st.integers(0, 4),
)
def test_k_means_takes_the_plain_lloyd_steps(
    seed: int, size: int, features: int, clusters: int, iterations: int
) -> None:
    points = normal(seed, size, features)
    expected = k_means(points, clusters, seed, iterations=0).tolist()
    for _ in range(iterations):
        expected = plain_lloyd_step(points.tolist(), expected)
    found = k_means(points, clusters, seed, iterations)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_an_emptied_cluster_restarts_at_the_farthest_point() -> None:
    points = torch.tensor(EMPTIED, dtype=torch.float64)[:, None] + 100
    centres, emptied = k_means(points, 8, 22929, iterations=0).tolist(), 0
    for iterations in range(1, 8):
        emptied += len({nearest(point, centres) for point in points.tolist()}) < 8
        centres = plain_lloyd_step(points.tolist(), centres)
        torch.testing.assert_close(k_means(points, 8, 22929, iterations), torch.tensor(centres, dtype=torch.float64))
    assert emptied == 1


def test_two_emptied_clusters_restart_at_different_points() -> None:
    points = torch.tensor([[0.0], [1.0], [2.0], [9.0], [-4.0]])
    centres = clustering._cluster_means(points, torch.zeros(5, dtype=torch.int64), 3)
    torch.testing.assert_close(centres, torch.tensor([[1.6], [9.0], [-4.0]]))


def test_k_means_stops_by_itself() -> None:
    points = normal(9, 60, 2)
    assert torch.equal(k_means(points, 4, seed=1, iterations=10**9), k_means(points, 4, seed=1))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 25),
    features=st.integers(1, 2),
    levels=st.sampled_from([1, 2, 20]),
    clusters=st.integers(1, 9),
)
def test_k_means_settles_with_no_empty_cluster(seed: int, size: int, features: int, levels: int, clusters: int) -> None:
    points = on_grid(seed, size, features, levels)
    centres = k_means(points, clusters, seed)
    assert len(centres) == min(clusters, len({tuple(point) for point in points.tolist()}))
    assert {nearest(point, centres.tolist()) for point in points.tolist()} == set(range(len(centres)))
    steps = [objective(points, k_means(points, clusters, seed, iterations)) for iterations in range(5)]
    steps.append(objective(points, centres))
    assert all(after <= before + 1e-9 for before, after in pairwise(steps))


def test_k_means_start_draws_by_squared_distance() -> None:
    points, tries = torch.tensor([[0.0], [1.0], [3.0]]), 3000
    starts = [tuple(k_means(points, 2, seed, iterations=0).flatten().tolist()) for seed in range(tries)]
    shares = {(0, 1): 1 / 10, (0, 3): 9 / 10, (1, 0): 1 / 5, (1, 3): 4 / 5, (3, 0): 9 / 13, (3, 1): 4 / 13}
    for pair, share in shares.items():
        p = share / 3
        assert starts.count(pair) / tries == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / tries))


def test_k_means_finds_separated_blobs() -> None:
    middles = torch.tensor([[0.0, 0.0], [30.0, 0.0], [0.0, 30.0], [30.0, 30.0]], dtype=torch.float64)
    points = torch.cat([middle + normal(k, 40 + 10 * k, 2) for k, middle in enumerate(middles)])
    expected = torch.stack([part.mean(dim=0) for part in points.split([40, 50, 60, 70])])
    found = k_means(points[torch.randperm(220, generator=torch.Generator().manual_seed(1))], 4, seed=3)
    order = [nearest(middle, found.tolist()) for middle in middles.tolist()]
    torch.testing.assert_close(found[order], expected)


@pytest.mark.parametrize(
    "outcome",
    [
        lambda points: k_means(points, 4, seed=5),
        lambda points: torch.tensor(k_centre(points, 9, points[:2])),
        lambda points: GaussianMixture.fit(points, 3, seed=5).log_density(points),
    ],
)
def test_same_result_for_every_precision_layout_and_random_state(
    outcome: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = normal(7, 60, 5).half()
    expected = outcome(points.double())
    torch.manual_seed(123)
    state = torch.get_rng_state()
    for same in (points, points.float(), points.double().T.contiguous().T, points.double().requires_grad_()):
        assert torch.equal(outcome(same), expected)
        assert not outcome(same).requires_grad
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(clustering, "CHUNK", 7)
    torch.testing.assert_close(outcome(points), expected, rtol=1e-9, atol=1e-12)


def test_another_seed_draws_another_start() -> None:
    points = normal(8, 50, 2)
    assert len({k_means(points, 3, seed, iterations=0).sum().item() for seed in range(10)}) > 5


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), components=st.integers(1, 4), features=st.integers(1, 4))
def test_log_density_is_the_log_of_the_plain_sum(seed: int, components: int, features: int) -> None:
    mixture = GaussianMixture(
        normal(seed, 1, components)[0].log_softmax(dim=0),
        normal(seed + 1, components, features) * 2,
        normal(seed + 2, components, features).exp(),
    )
    points = normal(seed + 3, 10, features)
    found = mixture.log_density(points)
    assert found.shape == (10,)
    assert found.dtype == torch.float64
    for value, point in zip(found.tolist(), points.tolist(), strict=True):
        assert value == pytest.approx(math.log(sum(plain_densities(point, mixture))), rel=1e-9, abs=1e-9)


def test_log_density_of_a_far_point_is_finite() -> None:
    mixture = GaussianMixture.fit(normal(1, 50, 3), 2, seed=0)
    near, far, farther = mixture.log_density(torch.tensor([[0.0] * 3, [1e3] * 3, [2e3] * 3])).tolist()
    assert near > far > farther > -math.inf


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), components=st.integers(1, 4), features=st.integers(1, 3))
def test_fit_takes_the_plain_steps(seed: int, components: int, features: int) -> None:
    points = normal(seed, 25, features)
    first, second = (GaussianMixture.fit(points, components, seed, iterations) for iterations in (0, 1))
    for k in range(components):
        shares = []
        for point in points.tolist():
            densities = plain_densities(point, first)
            shares.append(densities[k] / sum(densities))
        assert second.log_weights[k].item() == pytest.approx(math.log(sum(shares) / 25), abs=1e-9)
        for d, values in enumerate(points.T.tolist()):
            mean = sum(share * x for share, x in zip(shares, values, strict=True)) / sum(shares)
            variance = sum(share * (x - mean) ** 2 for share, x in zip(shares, values, strict=True)) / sum(shares)
            smallest = 1e-6 * points.var(dim=0, correction=0).mean().item() + TINY_VARIANCE
            assert second.means[k, d].item() == pytest.approx(mean, abs=1e-9)
            assert second.variances[k, d].item() == pytest.approx(max(variance, smallest), rel=1e-6)


def test_fit_starts_from_the_clusters() -> None:
    points = torch.tensor([[0.0, 0.0], [2.0, 0.0], [90.0, 5.0], [90.0, 9.0], [90.0, 13.0]])
    mixture = GaussianMixture.fit(points, 2, seed=0, iterations=0)
    order = mixture.means[:, 0].argsort()
    assert mixture.log_weights.exp()[order].tolist() == pytest.approx([0.4, 0.6])
    assert mixture.means[order].tolist() == [[1, 0], [90, 9]]
    smallest = 1e-6 * points.double().var(dim=0, correction=0).mean().item() + TINY_VARIANCE
    assert mixture.variances[order].flatten().tolist() == pytest.approx([1, smallest, smallest, 32 / 3])


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 30), features=st.integers(1, 3), grid=st.booleans())
def test_likelihood_of_the_fit_grows_and_beats_one_gaussian(seed: int, size: int, features: int, grid: bool) -> None:
    points = on_grid(seed, size, features, 3) if grid else normal(seed, size, features)
    single = GaussianMixture.fit(points, 1, seed).log_density(points).mean().item()
    fits = [GaussianMixture.fit(points, 3, seed, iterations) for iterations in (0, 1, 2, 4, 100)]
    means = [fit.log_density(points).mean().item() for fit in fits]
    assert all(after >= before - 1e-9 for before, after in pairwise(means))
    assert means[-1] >= single - 1e-9


def test_fit_recovers_two_gaussians() -> None:
    points = torch.cat((normal(1, 3000, 2), normal(2, 1000, 2) * torch.tensor([0.5, 2.0]) + 8))
    mixture = GaussianMixture.fit(points, 2, seed=0)
    order = mixture.log_weights.argsort(descending=True)
    expected = ([0.75, 0.25], [[0.0, 0.0], [8.0, 8.0]], [[1.0, 1.0], [0.25, 4.0]])
    for field, values in zip(mixture.state_dict().values(), expected, strict=True):
        found = field.exp() if field.ndim == 1 else field
        torch.testing.assert_close(found[order], torch.tensor(values, dtype=torch.float64), atol=0.15, rtol=0.05)


@pytest.mark.parametrize("points", [torch.tensor([[3.0, -1.0]]), torch.full((5, 2), 0.3), torch.full((4, 1), 1e6)])
def test_one_distinct_point(points: Tensor) -> None:
    assert torch.equal(k_means(points, 3, seed=0), points[:1].double())
    mixture = GaussianMixture.fit(points, 3, seed=0)
    torch.testing.assert_close(mixture.means, points[:1].double())
    torch.testing.assert_close(mixture.variances, torch.full_like(mixture.means, TINY_VARIANCE), rtol=1e-3, atol=0)
    here, near = mixture.log_density(torch.stack((points[0], points[0] + 1))).tolist()
    assert math.inf > here > near > -math.inf


def test_a_component_that_lost_all_points_leaves_the_density_of_the_others() -> None:
    points = normal(5, 30, 2)
    shares = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(30, 2)
    both, alone = (GaussianMixture._maximise(points, part, 1e-3) for part in (shares, shares[:, :1]))
    torch.testing.assert_close(both.log_density(points), alone.log_density(points))


def test_state_dict_makes_the_same_mixture() -> None:
    mixture = GaussianMixture.fit(normal(3, 40, 2), 3, seed=1)
    points = normal(4, 10, 2)
    assert torch.equal(GaussianMixture(**mixture.state_dict()).log_density(points), mixture.log_density(points))
    assert mixture.log_density(points[:0]).shape == (0,)


WRONG_POINTS = [
    (torch.ones(3), "floating points"),
    (torch.ones(3, 2, dtype=torch.int64), "floating points"),
    (torch.ones(3, 0), "floating points"),
    (torch.tensor([[1.0, torch.nan]]), "finite points"),
    (torch.tensor([[1.0], [torch.inf], [-torch.inf]]), "finite points"),
]


@pytest.mark.parametrize(("points", "message"), [*WRONG_POINTS, (torch.ones(0, 2), "at least one point")])
def test_wrong_points_are_refused(points: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        k_means(points, 2, seed=0)
    with pytest.raises(ValueError, match=message):
        GaussianMixture.fit(points, 2, seed=0)


@pytest.mark.parametrize(("points", "message"), WRONG_POINTS)
def test_wrong_points_are_refused_by_k_centre_and_log_density(points: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        k_centre(points, 1, torch.ones(1, 2))
    with pytest.raises(ValueError, match=message):
        GaussianMixture.fit(normal(0, 5, 2), 1, seed=0).log_density(points)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: k_means(x, 0, seed=0), "k_means: clusters must be .* got 0"),
        (lambda x: k_means(x, 2, seed=0, iterations=-1), "k_means: iterations must be .* got -1"),
        (lambda x: k_centre(x, -1, x), "k_centre: count must be .* got -1"),
        (lambda x: k_centre(x, 1, x[:, :1]), r"start \(M, 2\)"),
        (lambda x: k_centre(x, 1, x[0]), r"floating start \(N, D\)"),
        (lambda x: GaussianMixture.fit(x, 0, seed=0), "GaussianMixture: components .* got 0"),
        (lambda x: GaussianMixture.fit(x, 1, seed=0, iterations=-2), "GaussianMixture: iterations .* got -2"),
        (lambda x: GaussianMixture.fit(x, 1, seed=0, floor=-1.0), r"GaussianMixture: floor .* got -1\.0"),
        (lambda x: GaussianMixture.fit(x, 1, seed=0).log_density(x[:, :1]), r"points \(N, 2\), got \(5, 1\)"),
    ],
)
def test_wrong_arguments_are_refused(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(normal(0, 5, 2))
