"""Samplers: every draw is a function of the step alone, whatever the world, the start or the resume."""

from itertools import chain, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.data.samplers import ShardBatchSampler, StepBatchSampler, UniformOrder

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**40)


def batches(
    size: int,
    batch_size: int,
    start: int,
    stop: int,
    seed: int = 0,
    purpose: str = "source",
    rank: int = 0,
    world_size: int = 1,
    resume: int = 0,
) -> list[list[tuple[int, int]]]:
    order = UniformOrder(range(size), seed, purpose)
    return list(StepBatchSampler(order, batch_size, start, stop, rank, world_size, resume))


@given(sizes, st.integers(1, 4), st.integers(1, 4), st.integers(0, 7), st.integers(0, 6), seeds)
def test_ranks_together_draw_what_one_process_draws(
    size: int, batch_size: int, world_size: int, start: int, steps: int, seed: int
) -> None:
    stop = start + steps
    ranks = [batches(size, batch_size, start, stop, seed, "target", rank, world_size) for rank in range(world_size)]
    alone = batches(size, batch_size * world_size, start, stop, seed, "target")
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone
    assert all(len(batch) == batch_size for rank in ranks for batch in rank)


@given(sizes, st.integers(1, 4), seeds)
def test_every_sweep_is_a_permutation(size: int, batch_size: int, seed: int) -> None:
    drawn = list(chain(*batches(size, batch_size, 0, 4 * size, seed)))
    assert [draw for _, draw in drawn] == list(range(len(drawn)))
    indices = [index for index, _ in drawn]
    for sweep in range(len(drawn) // size):
        assert sorted(indices[sweep * size : (sweep + 1) * size]) == list(range(size))


@given(sizes, st.integers(1, 3), st.integers(0, 8), st.integers(0, 8), st.integers(0, 12), seeds)
def test_cuts_and_resumes_change_nothing(
    size: int, batch_size: int, first: int, second: int, resume: int, seed: int
) -> None:
    whole = batches(size, batch_size, 0, first + second, seed)
    cut = [*batches(size, batch_size, 0, first, seed), *batches(size, batch_size, first, first + second, seed)]
    assert cut == whole
    again = batches(size, batch_size, first, first + second, seed, resume=resume)
    assert again == whole[max(first, resume) :]


def test_length_counts_the_whole_span_also_after_a_resume() -> None:
    sampler = StepBatchSampler(UniformOrder(range(5), 0, "source"), 2, 10, 16, 0, 1, resume=14)
    assert len(sampler) == 6
    assert len(list(sampler)) == 2


def test_sweeps_seeds_and_purposes_differ() -> None:
    size = 40
    drawn = [index for index, _ in chain(*batches(size, 1, 0, 3 * size))]
    sweeps = [tuple(drawn[k * size : (k + 1) * size]) for k in range(3)]
    orders = [
        *sweeps,
        tuple(index for index, _ in chain(*batches(size, 1, 0, size, seed=1))),
        tuple(index for index, _ in chain(*batches(size, 1, 0, size, purpose="target"))),
    ]
    assert len(set(orders)) == len(orders)


def test_order_is_shuffled_fairly() -> None:
    first = [batches(4, 1, 0, 1, seed)[0][0][0] for seed in range(400)]
    counts = np.bincount(first, minlength=4)
    assert counts.min() > 60  # 100 expected; 5 standard deviations below are 57


@given(st.integers(0, 40), st.integers(1, 6))
def test_shards_partition_exactly(size: int, world_size: int) -> None:
    shards = [[*chain(*ShardBatchSampler(size, 1, rank, world_size))] for rank in range(world_size)]
    assert sorted(chain(*shards)) == list(range(size))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(low < high for shard in shards for low, high in pairwise(shard))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5))
def test_every_process_has_a_batch_and_each_image_is_in_one(size: int, world_size: int, batch_size: int) -> None:
    samplers = [ShardBatchSampler(size, batch_size, rank, world_size) for rank in range(world_size)]
    shards = [list(sampler) for sampler in samplers]
    assert sorted(chain(*chain(*shards))) == list(range(size))
    for rank, (sampler, shard) in enumerate(zip(samplers, shards, strict=True)):
        assert len(sampler) == len(shard) >= 1
        assert [len(batch) for batch in shard[:-1]] == [batch_size] * (len(shard) - 1)
        assert (shard == [[]]) == (rank >= size)
