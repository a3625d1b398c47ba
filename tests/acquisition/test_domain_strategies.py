"""Strategies that compare images or regions with source and pool (MADA, core-set, MulActSeg, D2ADA), against loops."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ripu_lightning.acquisition import (
    D2ADA,
    MADA,
    Budget,
    Candidates,
    CoreSet,
    MulActSeg,
    ScoreInputs,
    Square,
    Strategy,
    Superpixel,
    get_strategy,
    round_selection,
)
from ripu_lightning.acquisition.clustering import GaussianMixture, k_means
from ripu_lightning.errors import UserError
from ripu_lightning.seeding import derive_seed

CLASSES, DEPTH, HEIGHT, WIDTH = 4, 3, 7, 9
CELLS = (3, 4)
PIXELS = [(y, x) for y in range(HEIGHT) for x in range(WIDTH)]
REGIONS = 6

seeds = given(seed=st.integers(0, 10_000))
few_examples = settings(max_examples=8)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def integers(seed: int, least: int, below: int, *shape: int) -> Tensor:
    return torch.randint(least, below, shape, generator=torch.Generator().manual_seed(seed))


def drawn(seed: int, batch: int = 2) -> ScoreInputs:
    """Images whose last class is never predicted, with superpixels of any shape."""
    logits = 2 * draw(seed, batch, CLASSES, HEIGHT, WIDTH)
    logits[:, -1] -= 30
    regions = integers(seed + 1, 0, REGIONS, batch, HEIGHT, WIDTH)
    regions.view(batch, -1)[:, :REGIONS] = torch.arange(REGIONS)  # none is empty
    names = [f"image_{index}" for index in range(batch)]
    features = draw(seed + 2, batch, DEPTH, *CELLS) + 1
    return ScoreInputs(logits, names, round=1, seed=0, features=features, regions=regions)


def without(inputs: ScoreInputs, *names: str) -> ScoreInputs:
    return ScoreInputs(**{**vars(inputs), **dict.fromkeys(names)})


def shares(values: list[float]) -> list[float]:
    weights = [math.exp(value - max(values)) for value in values]
    return [weight / sum(weights) for weight in weights]


def mean(vectors: Sequence[Sequence[float]], length: int) -> list[float]:
    return [sum(values) / len(vectors) for values in zip(*vectors, strict=True)] if vectors else [0.0] * length


def squared(a: Sequence[float], b: Sequence[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def cell_of(features: Tensor, row: int, column: int) -> list[float]:
    """Features of the cell that a pixel lies in."""
    height, width = features.shape[1:]
    return features[:, row * height // HEIGHT, column * width // WIDTH].tolist()


def predicted(logits: Tensor, row: int, column: int) -> int:
    values = logits[:, row, column].tolist()
    return values.index(max(values))


def image_of(inputs: ScoreInputs, index: int) -> tuple[Tensor, Tensor, Tensor]:
    assert inputs.features is not None
    assert inputs.regions is not None
    return inputs.logits[index], inputs.features[index], inputs.regions[index]


def selected(
    strategy: Strategy, budget: Budget, images: list[ScoreInputs], round_number: int = 1, earlier: Sequence[int] = ()
) -> list[tuple[int, int]]:
    """(image, position) of all picks; all pixels of the images in ``earlier`` were queried in earlier rounds."""
    selection, picks = round_selection(strategy, budget, round_number, HEIGHT * WIDTH * len(images)), {}
    for index, inputs in enumerate(images):
        available = torch.full(inputs.shape, index not in earlier)
        queried = torch.zeros(int(index in earlier), dtype=torch.int64)
        picks |= selection.add(index, inputs, available, queried)
    picks |= selection.decide(selection.candidates())
    return [(index, position) for index, picked in picks.items() for position in picked.positions.tolist()]


# MADA


def fine(seed: int, batch: int = 2) -> ScoreInputs:
    """Images with a cell a pixel, and a class that covers about ten of them."""
    inputs = drawn(seed, batch)
    inputs.logits[:, 1] -= 1.7
    return replace(inputs, features=draw(seed + 2, batch, DEPTH, HEIGHT, WIDTH) + 1)


def plain_content(logits: Tensor, features: Tensor) -> list[float]:
    """Mean features class by class, one after the other; zeros where a class has fewer than ten cells."""
    content: list[float] = []
    for name in range(CLASSES):
        own = [cell_of(features, *pixel) for pixel in PIXELS if predicted(logits, *pixel) == name]
        content += mean(own if len(own) >= 10 else [], DEPTH)
    return content


def test_mada_leaves_out_classes_of_fewer_than_ten_cells() -> None:
    counts = [sum(predicted(fine(seed).logits[0], *pixel) == 1 for pixel in PIXELS) for seed in range(30)]
    assert {count < 10 for count in counts} == {True, False}
    for seed, count in enumerate(counts):
        block = MADA().summarize(fine(seed).split()[0])[DEPTH : 2 * DEPTH]
        assert bool((block == 0).all()) == (count < 10)


@few_examples
@seeds
def test_mada_scores_the_distance_to_the_nearest_anchor(seed: int) -> None:
    inputs, anchors = fine(seed), draw(seed + 9, 3, CLASSES * DEPTH)
    strategy = MADA()
    strategy.load_state_dict({"anchors": anchors})
    result = strategy.score(inputs)
    assert result.shape == (2, HEIGHT, WIDTH)
    for index in range(2):
        logits, features, _ = image_of(inputs, index)
        content = plain_content(logits, features)
        assert content[-DEPTH:] == [0.0] * DEPTH
        nearest = min(squared(content, anchor) for anchor in anchors.tolist()) / (CLASSES * DEPTH)
        assert result[index].reshape(-1).tolist() == pytest.approx([nearest] * len(PIXELS), rel=1e-5)


def test_mada_anchors_are_the_k_means_of_the_source_images() -> None:
    source, strategy = fine(4, batch=9), MADA(anchors=3)
    contents = [plain_content(*image_of(source, index)[:2]) for index in range(9)]
    summaries = [strategy.summarize(image) for image in source.split()]
    torch.testing.assert_close(torch.stack(summaries), torch.tensor(contents))
    strategy.fit(summaries, [], seed=5)
    expected = k_means(torch.tensor(contents), 3, derive_seed(5, "mada"))
    torch.testing.assert_close(strategy.state_dict()["anchors"], expected, atol=1e-6, rtol=1e-5)


def test_mada_buys_the_image_that_is_unlike_the_source() -> None:
    strategy, source = MADA(anchors=2), fine(6, batch=5)
    strategy.fit([strategy.summarize(image) for image in source.split()], [], seed=0)
    pool = source.split()
    pool[3] = ScoreInputs(**{**vars(pool[3]), "features": image_of(source, 3)[1][None] * -4})
    assert selected(strategy, Budget(images=1, per="pool", rounds=1), pool) == [(3, 0)]


def test_mada_says_what_is_missing_or_wrong() -> None:
    with pytest.raises(ValueError, match=r"mada: expected anchors .call fit first."):
        MADA().score(drawn(1))
    with pytest.raises(ValueError, match=r"mada: expected features in the inputs, got none"):
        MADA().summarize(without(drawn(1), "features"))
    with pytest.raises(UserError, match=r"mada: anchors must be .* >= 1, got 0"):
        get_strategy("mada", anchors=0)


# Core-set


def plain_cover(points: list[list[float]], count: int, start: list[list[float]]) -> list[int]:
    """Again and again the point that is farthest from everything known and picked."""
    picks: list[int] = []
    while len(picks) < min(count, len(points)):
        known = start + [points[pick] for pick in picks]
        left = [n for n in range(len(points)) if n not in picks]
        picks.append(max(left, key=lambda n: min(squared(points[n], each) for each in known)))
    return picks


@few_examples
@seeds
def test_core_set_scores_the_distance_to_the_nearest_source_image(seed: int) -> None:
    inputs, source = drawn(seed), drawn(seed + 5, batch=4)
    strategy = CoreSet()
    strategy.fit([strategy.summarize(image) for image in source.split()], [], seed=0)
    result = strategy.score(inputs)
    known = [mean(image_of(source, index)[1].reshape(DEPTH, -1).T.tolist(), DEPTH) for index in range(4)]
    for index in range(2):
        own = mean(image_of(inputs, index)[1].reshape(DEPTH, -1).T.tolist(), DEPTH)
        expected = math.sqrt(min(squared(own, each) for each in known))
        assert result[index].reshape(-1).tolist() == pytest.approx([expected] * len(PIXELS), rel=1e-4)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 12),
    amount=st.integers(1, 14),
    source=st.integers(1, 4),
    queried=st.integers(0, 4),
)
def test_core_set_picks_the_farthest_from_source_labels_and_picks(
    seed: int, size: int, amount: int, source: int, queried: int
) -> None:
    features, known, labelled = draw(seed, size, 2), draw(seed + 1, source, 2), draw(seed + 2, queried, 2)
    strategy = CoreSet()
    strategy.fit(list(known), [], seed=0)
    columns = torch.arange(size), torch.zeros(size), torch.arange(size, 0, -1).double(), torch.ones(size)
    candidates = Candidates(*columns, features=features, queried=labelled if queried else None)
    expected = plain_cover(features.tolist(), amount, known.tolist() + labelled.tolist())
    assert strategy.select(candidates, amount, 1).tolist() == expected


def test_core_set_covers_a_pool_over_two_rounds() -> None:
    images, strategy = [drawn(seed, batch=1) for seed in range(20, 28)], CoreSet()
    source = [strategy.summarize(drawn(seed, batch=1)) for seed in (40, 41)]
    strategy.fit(source, [], seed=0)
    means = []
    for image in images:
        _, features, _ = image_of(image, 0)
        means.append(mean([cell_of(features, *pixel) for pixel in PIXELS], DEPTH))
    start = [vector.tolist() for vector in source]
    expected = plain_cover(means, 5, start)
    budget = Budget(images=5, per="pool", rounds=2)  # two, then three
    first = [index for index, _ in selected(strategy, budget, images)]
    assert set(first) == set(expected[:2])
    second = [index for index, _ in selected(strategy, budget, images, 2, earlier=first)]
    assert set(second) == set(expected[2:])


def test_core_set_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"core_set: expected source features .call fit first."):
        CoreSet().score(drawn(1))
    with pytest.raises(ValueError, match=r"core_set: expected features in the inputs, got none"):
        CoreSet().summarize(without(drawn(1), "features"))
    columns = torch.arange(2), torch.zeros(2), torch.ones(2), torch.ones(2)
    with pytest.raises(ValueError, match="expected candidates with features"):
        CoreSet().select(Candidates(*columns), 1, 1)


# MulActSeg


def plain_balanced(logits: Tensor, theta: list[float], balance: float, row: int, column: int) -> float:
    parts = shares(logits[:, row, column].tolist())
    first, second = sorted(parts, reverse=True)[:2]
    return second / first * (1 + balance * theta[parts.index(first)]) ** -2


def plain_theta(images: list[ScoreInputs]) -> list[float]:
    means = []
    for image in images:
        values = [shares(image.logits[0, :, y, x].tolist()) for y, x in PIXELS]
        means.append(mean(values, CLASSES))
    return mean(means, CLASSES)


@pytest.mark.parametrize("balance", [0.0, 6.0, 0.7])
@few_examples
@seeds
def test_mulactseg_is_the_weighted_margin(balance: float, seed: int) -> None:
    inputs, pool = drawn(seed), drawn(seed + 5, batch=3).split()
    strategy = MulActSeg(balance)
    strategy.fit([], [strategy.summarize(image) for image in pool], seed=0)
    result, theta = strategy.score(inputs), plain_theta(pool)
    for index, row, column in [(i, y, x) for i in range(2) for y, x in PIXELS]:
        expected = plain_balanced(inputs.logits[index], theta, balance, row, column)
        assert result[index, row, column].item() == pytest.approx(expected, rel=1e-9)


def test_mulactseg_buys_superpixels_by_their_mean_score() -> None:
    inputs, strategy = drawn(8, batch=1), MulActSeg()
    strategy.fit([], [strategy.summarize(inputs)], seed=0)
    logits, _, regions = image_of(inputs, 0)
    theta, scores = plain_theta([inputs]), []
    for number in range(REGIONS):
        own = [plain_balanced(logits, theta, 6.0, *pixel) for pixel in PIXELS if regions[pixel] == number]
        scores.append(sum(own) / len(own))
    expected = sorted(range(REGIONS), key=lambda number: -scores[number])
    found = selected(strategy, Budget(regions=4, rounds=1), [inputs])
    assert [int(regions.reshape(-1)[position]) for _, position in found] == expected[:4]


def test_mulactseg_says_what_is_missing_or_wrong() -> None:
    with pytest.raises(ValueError, match=r"mulactseg: expected the pool's class shares .call fit first."):
        MulActSeg().score(drawn(1))
    with pytest.raises(UserError, match=r"mulactseg: balance must be a number >= 0, got -1"):
        get_strategy("mulactseg", balance=-1.0)


# D2ADA


def plain_superpixels(logits: Tensor, features: Tensor, regions: Tensor) -> list[tuple[int, list[float]]]:
    """Class by mean probability and mean features of each."""
    result = []
    for number in range(REGIONS):
        own = [pixel for pixel in PIXELS if regions[pixel] == number]
        likely = mean([shares(logits[:, y, x].tolist()) for y, x in own], CLASSES)
        result.append((likely.index(max(likely)), mean([cell_of(features, *pixel) for pixel in own], DEPTH)))
    return result


def plain_log_gaussian(point: list[float], points: list[list[float]]) -> float:
    """Log density of the most likely Gaussian with diagonal covariance."""
    middle = mean(points, DEPTH)
    spread = mean([[(x - m) ** 2 for x, m in zip(each, middle, strict=True)] for each in points], DEPTH)
    total = 0.0
    for x, m, v in zip(point, middle, spread, strict=True):
        total -= ((x - m) ** 2 / v + math.log(2 * math.pi * v)) / 2
    return total


def summaries(classes: list[int], features: Tensor) -> Tensor:
    return torch.cat((torch.tensor(classes)[:, None], features), dim=1).float()


def test_d2ada_s_class_is_that_of_the_mean_probability() -> None:
    """Two pixels lean to class 0, the third is sure of class 1: the majority is 0, the mean probability is 1's."""
    logits = torch.tensor([[0.2, 0.2, 0.0], [0.0, 0.0, 9.0]]).reshape(1, 2, 1, 3)
    inputs = ScoreInputs(logits, ["a"], 1, 0)
    assert D2ADA().classify(inputs, (torch.arange(3), torch.zeros(3, dtype=torch.int64)), 1).tolist() == [1]


@few_examples
@seeds
def test_d2ada_scores_the_log_density_ratio(seed: int) -> None:
    """With fewer than 200 superpixels a class each mixture is one Gaussian: mean and variance, written out."""
    source, pool, strategy = drawn(seed, batch=5), drawn(seed + 50, batch=5), D2ADA()
    found = {
        name: [superpixel for index in range(5) for superpixel in plain_superpixels(*image_of(images, index))]
        for name, images in (("source", source), ("pool", pool))
    }
    summed = {
        name: [strategy.summarize(image) for image in images.split()]
        for name, images in (("source", source), ("pool", pool))
    }
    for name, plain in found.items():
        assert torch.cat(summed[name])[:, 0].tolist() == [own for own, _ in plain]
        torch.testing.assert_close(torch.cat(summed[name])[:, 1:], torch.tensor([vector for _, vector in plain]))
    strategy.fit(summed["source"], summed["pool"], seed=0)
    result = strategy.score(pool)
    of_class = {
        (domain, name): [vector for own, vector in plain if own == name]
        for domain, plain in found.items()
        for name in range(CLASSES)
    }
    for index in range(5):
        _, _, regions = image_of(pool, index)
        expected: list[float | None] = []
        for name, vector in plain_superpixels(*image_of(pool, index)):
            there, here = of_class["pool", name], of_class["source", name] or [v for _, v in found["source"]]
            if min(len(there), len(here)) < 5:  # the floor of the variance counts for so few
                expected.append(None)
            else:
                expected.append(plain_log_gaussian(vector, there) - plain_log_gaussian(vector, here))
        assert any(expected)
        for pixel in PIXELS:
            ratio = expected[int(regions[pixel])]
            assert ratio is None or result[index][pixel].item() == pytest.approx(ratio, rel=1e-3, abs=1e-3)


def test_d2ada_compares_a_class_that_the_source_never_shows_with_all_of_it() -> None:
    source, pool = draw(1, 30, DEPTH), draw(2, 20, DEPTH) + 1
    strategy = D2ADA()
    strategy.fit([summaries([0] * 30, source)], [summaries([2] * 20, pool)], seed=0)
    everything = GaussianMixture.fit(source.float(), 1, derive_seed(0, "source", 2))
    found = strategy.state_dict()["source"]
    assert list(found) == [2]
    assert torch.equal(found[2]["means"], everything.means)


def test_d2ada_scores_zero_where_the_fitted_pool_never_had_the_class() -> None:
    inputs, strategy = drawn(3), D2ADA()
    points = [summaries([CLASSES - 1] * 5, draw(4, 5, DEPTH))]
    strategy.fit(points, points, seed=0)
    assert not strategy.score(inputs).any()


def test_d2ada_has_a_component_for_every_hundred_target_superpixels_of_a_class() -> None:
    classes, strategy = [0] * 250 + [1] * 199 + [2] * 5, D2ADA()
    points = [summaries(classes, draw(5, len(classes), DEPTH))]
    strategy.fit(points, points, seed=0)
    for domain in ("source", "target"):
        mixtures = strategy.state_dict()[domain]
        assert [len(mixtures[name]["means"]) for name in (0, 1, 2)] == [2, 1, 1]


@pytest.mark.parametrize(("shift", "turns"), [(0.0, 1), (5.0, 1), (16.0, 2), (50.0, 3)])
def test_d2ada_gives_more_turns_to_classes_that_differ_more(shift: float, turns: int) -> None:
    """Unit Gaussians that differ so much in every feature have a mean log ratio of about ``D shift^2 / 2``."""
    strategy, points = D2ADA(), draw(6, 60, DEPTH)
    points = (points - points.mean(dim=0)) / points.std(dim=0, correction=0)
    strategy.fit([summaries([1] * 60, points)], [summaries([1] * 60, points + shift)], seed=0)
    assert strategy.state_dict()["weights"] == {1: turns}
    assert turns == max(1, int(math.log10(max(DEPTH * shift**2 / 2, 1))))


def plain_d2ada(
    classes: list[int],
    scores: list[float],
    costs: list[float],
    entropies: list[float],
    turns: dict[int, int],
    amount: float,
    round_number: int,
) -> list[int]:
    """Turns of the classes until the share is spent, then the most uncertain of the rest."""
    queues = {
        name: sorted((n for n in range(len(classes)) if classes[n] == name), key=lambda n: -scores[n])
        for name in sorted(set(classes))
    }
    order = []
    while any(queues.values()):
        for name, queue in queues.items():
            order += [queue.pop(0) for _ in range(min(turns.get(name, 1), len(queue)))]
    picks: list[int] = []
    for n in order:
        if sum(costs[pick] for pick in picks) >= amount / 2 ** (round_number - 1):
            break
        picks.append(n)
    for n in sorted(range(len(classes)), key=lambda n: -entropies[n]):
        if n not in picks and sum(costs[pick] for pick in picks) < amount:
            picks.append(n)
    return picks


@settings(max_examples=80)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(1, 25),
    levels=st.sampled_from([2, 1000]),
    dearest=st.sampled_from([1, 5]),
    amount=st.sampled_from([1.0, 4.0, 9.5, 30.0]),
    round_number=st.integers(1, 4),
    turns=st.dictionaries(st.integers(0, 3), st.integers(1, 3)),
)
def test_d2ada_spends_a_share_on_density_and_the_rest_on_uncertainty(
    seed: int, size: int, levels: int, dearest: int, amount: float, round_number: int, turns: dict[int, int]
) -> None:
    classes, costs = integers(seed, 0, 4, size), integers(seed + 1, 1, dearest + 1, size).float()
    scores, entropies = integers(seed + 2, 0, levels, size).double(), integers(seed + 3, 1, levels + 1, size).float()
    candidates = Candidates(
        torch.zeros(size, dtype=torch.int32),
        torch.arange(size),
        scores,
        costs,
        classes=classes.to(torch.int16),
        features=entropies[:, None],
    )
    strategy = D2ADA()
    strategy.load_state_dict({"weights": turns})
    columns = (classes.tolist(), scores.tolist(), costs.tolist(), entropies.tolist())
    expected = plain_d2ada(*columns, turns, amount, round_number)
    assert strategy.select(candidates, amount, round_number).tolist() == expected


def test_d2ada_s_uncertainty_is_the_mean_entropy() -> None:
    inputs = drawn(7, batch=1)
    logits, _, regions = image_of(inputs, 0)
    members = torch.arange(len(PIXELS)), regions.reshape(-1)
    result = D2ADA().describe(inputs, members, REGIONS)
    assert result.shape == (REGIONS, 1)
    for number in range(REGIONS):
        own = [shares(logits[:, y, x].tolist()) for y, x in PIXELS if regions[y, x] == number]
        entropies = [-sum(p * math.log(p) for p in parts) / math.log(CLASSES) for parts in own]
        assert result[number].item() == pytest.approx(sum(entropies) / len(entropies), abs=1e-6)


def test_d2ada_says_what_is_missing_or_wrong() -> None:
    inputs, strategy = drawn(1, batch=1), D2ADA()
    with pytest.raises(ValueError, match=r"d2ada: expected fitted mixtures .call fit first."):
        strategy.score(inputs)
    with pytest.raises(ValueError, match=r"d2ada: expected features in the inputs, got none"):
        strategy.summarize(without(inputs, "features"))
    with pytest.raises(ValueError, match=r"d2ada: expected regions in the inputs, got none"):
        strategy.summarize(without(inputs, "regions"))
    columns = torch.zeros(2), torch.arange(2), torch.ones(2), torch.ones(2)
    with pytest.raises(ValueError, match="d2ada: expected features of the candidates, got none"):
        strategy.select(Candidates(*columns, classes=torch.zeros(2, dtype=torch.int16)), 1, 1)
    with pytest.raises(ValueError, match="expected candidates with classes, got none"):
        strategy.select(Candidates(*columns, features=torch.ones(2, 1)), 1, 1)
    with pytest.raises(UserError, match="d2ada: region_type must be superpixels, got squares"):
        get_strategy("d2ada", region_type=Square(2))
    assert get_strategy("d2ada", region_type=Superpixel(segments=7)).region_type.name == "superpixel"
