"""Samplers without state: which image is drawn is a function of (seed, purpose, step, rank) alone."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from ripu_lightning.seeding import derive_seed


class StepBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches for the steps ``start <= step < stop`` of a run, as lists of ``(index, draw)``.

    All ranks together walk through one endless sequence of shuffled passes over the data; ``draw`` counts along it
    and seeds the sample's augmentation. A run that goes on at step 700 sees what it would have seen; its length
    stays ``stop - start``, because Lightning counts the batches before a checkpoint itself.

    Args:
        size: number of images, 1 or more.
        batch_size: images a step and process.
        start: first step.
        stop: one past the last step.
        seed: the run's seed.
        purpose: keeps pools apart, for example ``"source"``.
        rank: this process.
        world_size: number of processes.
        resume: the step to go on from, later than ``start`` where a checkpoint lies between.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        start: int,
        stop: int,
        seed: int,
        purpose: str,
        rank: int,
        world_size: int,
        resume: int = 0,
    ) -> None:
        self.size, self.batch_size = size, batch_size
        self.start, self.stop, self.resume = start, stop, resume
        self.seed, self.purpose = seed, purpose
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(max(self.start, self.resume), self.stop):
            first = (step * self.world_size + self.rank) * self.batch_size
            yield [(self._index(draw), draw) for draw in range(first, first + self.batch_size)]

    def _index(self, draw: int) -> int:
        sweep, position = divmod(draw, self.size)
        return int(_order(self.size, derive_seed(self.seed, self.purpose, "order", sweep))[position])


class ShardSampler(Sampler[int]):
    """Every ``world_size``-th image, unpadded: evaluation and acquisition count each image exactly once."""

    def __init__(self, size: int, rank: int, world_size: int) -> None:
        self._indices = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)


@lru_cache(maxsize=8)
def _order(size: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(size)
