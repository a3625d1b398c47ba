"""Class-balanced sampling: the rule as a plain loop, and a function of the draw alone."""

import math
from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripu_lightning.data import ActiveDataModule
from ripu_lightning.data.samplers import RECOUNT, BalancedOrder, StepBatchSampler
from ripu_lightning.errors import UserError
from ripu_lightning.labels import QueriedLabels, Stage
from ripu_lightning.seeding import derive_seed
from tiny import Blocks, Stamped

Counts = npt.NDArray[np.int64]


def counts(seed: int, images: int = 12, classes: int = 5) -> Counts:
    """Sparse counts over several magnitudes; the last class occurs nowhere."""
    generator = np.random.default_rng(seed)
    pixels = 10 ** generator.integers(0, 6, (images, classes)) * (generator.random((images, classes)) < 0.4)
    pixels[0, :-1] = 7
    pixels[:, -1] = 0
    return pixels.astype(np.int64)


def by_hand(pixels: Counts, seed: int, purpose: str, draws: int) -> list[int]:
    """One draw after another, as the rule reads."""
    images, classes = pixels.shape
    holders = [[image for image in range(images) if pixels[image, label]] for label in range(classes)]
    seen, walked, drawn = [0] * classes, [0] * classes, []
    for draw in range(draws):
        if draw % 3000 == 0:
            total = sum(seen)
            shares = [count / total if total else 0.0 for count in seen]
            weights = [1 / math.log(1.01 + share) if held else 0.0 for share, held in zip(shares, holders, strict=True)]
            generator = np.random.default_rng(derive_seed(seed, purpose, "classes", draw // 3000))
            labels = generator.choice(classes, 3000, p=[weight / sum(weights) for weight in weights])
        label = int(labels[draw % 3000])
        sweep, position = divmod(walked[label], len(holders[label]))
        shuffle = np.random.default_rng(derive_seed(seed, purpose, "class", label, sweep))
        drawn.append(holders[label][shuffle.permutation(len(holders[label]))[position]])
        walked[label] += 1
        seen = [count + int(more) for count, more in zip(seen, pixels[drawn[-1]], strict=True)]
    return drawn


@pytest.mark.parametrize("seed", [0, 5])
def test_draws_are_those_of_the_plain_loop(seed: int) -> None:
    pixels = counts(seed)
    order = BalancedOrder(pixels, seed, "source")
    draws = 2 * RECOUNT + 400
    assert [order(draw) for draw in range(draws)] == by_hand(pixels, seed, "source", draws)


def test_any_draw_can_be_asked_first() -> None:
    whole = BalancedOrder(counts(1), 3, "source")
    expected = [whole(draw) for draw in range(3 * RECOUNT)]
    for draw in (2 * RECOUNT + 1, 0, RECOUNT - 1, RECOUNT, 3 * RECOUNT - 1):
        assert BalancedOrder(counts(1), 3, "source")(draw) == expected[draw]
    other_seed, other_purpose = BalancedOrder(counts(1), 4, "source"), BalancedOrder(counts(1), 3, "target")
    assert expected[:50] != [other_seed(draw) for draw in range(50)]
    assert expected[:50] != [other_purpose(draw) for draw in range(50)]


def test_each_class_walks_through_all_its_images() -> None:
    """Images that hold one class each tell which class was drawn."""
    pixels = np.zeros((9, 3), dtype=np.int64)
    for image in range(9):
        pixels[image, [0, 0, 0, 0, 1, 1, 1, 2, 2][image]] = 100
    order = BalancedOrder(pixels, 0, "source")
    drawn = [order(draw) for draw in range(2 * RECOUNT)]
    for holders in ([0, 1, 2, 3], [4, 5, 6], [7, 8]):
        walk = [image for image in drawn if image in holders]
        sweeps = [walk[first : first + len(holders)] for first in range(0, len(walk) - len(holders), len(holders))]
        assert all(sorted(sweep) == holders for sweep in sweeps)
        assert len(set(map(tuple, sweeps))) > 1


def test_rare_classes_come_more_often_than_by_chance() -> None:
    """One image of 100 holds the rare class; what no image holds is never waited for."""
    pixels = np.zeros((100, 3), dtype=np.int64)
    pixels[:, 0] = 1000
    pixels[17, 1] = 50
    order = BalancedOrder(pixels, 0, "source")
    first = [order(draw) for draw in range(RECOUNT)]
    # Both classes alike at first. Then the common one has nearly all pixels: 1/log(2.01) against 1/log(1.02).
    assert 0.45 < first.count(17) / RECOUNT < 0.56
    share = sum(pixels[image, 1] for image in first) / sum(pixels[image].sum() for image in first)
    rare, common = 1 / math.log(1.01 + share), 1 / math.log(2.01 - share)
    second = [order(draw) for draw in range(RECOUNT, 2 * RECOUNT)]
    expected = rare / (rare + common) + 0.01 * common / (rare + common)
    assert second.count(17) / RECOUNT == pytest.approx(expected, abs=0.03)


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 5), st.integers(1, 5), st.integers(0, 2**40))
def test_ranks_and_resumes_share_one_sequence(
    batch_size: int, world_size: int, start: int, steps: int, seed: int
) -> None:
    def batches(batch_size: int, rank: int, world_size: int, resume: int = 0) -> list[list[tuple[int, int]]]:
        order = BalancedOrder(counts(2), seed, "source")
        return list(StepBatchSampler(order, batch_size, start, start + steps, rank, world_size, resume))

    alone = batches(batch_size * world_size, 0, 1)
    ranks = [batches(batch_size, rank, world_size) for rank in range(world_size)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone
    assert batches(batch_size * world_size, 0, 1, resume=start + 1) == alone[1:]


def test_global_state_is_neither_read_nor_changed() -> None:
    np.random.seed(1)  # noqa: NPY002 - the global state is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = BalancedOrder(counts(0), 0, "source")(RECOUNT)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert BalancedOrder(counts(0), 0, "source")(RECOUNT) == first


def test_without_any_class_there_is_nothing_to_balance() -> None:
    with pytest.raises(UserError, match=r"source_sampling is .class_balanced., but no label contains any class"):
        BalancedOrder(np.zeros((4, 3), dtype=np.int64), 0, "source")


def test_the_datamodule_balances_its_source_alone() -> None:
    source = Stamped("source", 7, fingerprint=None)
    uniform, balanced = (
        ActiveDataModule(source, Blocks("target", 5), Blocks("val", 3), source_sampling=sampling, batch_size=3)
        for sampling in ("uniform", "class_balanced")
    )
    for data in (uniform, balanced):
        data.begin_stage(Stage(0, 0, 20, QueriedLabels(None, 0)))
    one, other = ([batch for batch, _, _ in iter(data.train_dataloader())] for data in (uniform, balanced))
    pixels = np.array([[(source.label(index) == label).sum() for label in range(3)] for index in range(7)])
    order = BalancedOrder(pixels, 0, "source")
    for step, (plain, batch) in enumerate(zip(one, other, strict=True)):
        assert np.array_equal(plain["target"]["image"], batch["target"]["image"])
        expected = [source.label(order(draw)) for draw in range(3 * step, 3 * step + 3)]
        np.testing.assert_array_equal(batch["source"]["label"].numpy(), expected)
    source.opened.clear()
    next(iter(balanced.train_dataloader()))  # a later epoch counts no pixels again
    assert len(source.opened) == 2 * 3  # image and label of one batch
