"""Samplers without state: which image is drawn is a function of (seed, purpose, draw) and the images alone."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from torch.utils.data import BatchSampler, Sampler

from ripu_lightning.errors import UserError
from ripu_lightning.seeding import derive_seed

Order = Callable[[int], int]
"""Number of a draw, counted over the whole run -> index of the image that is drawn."""

RECOUNT = 3000
"""Draws after which class-balanced sampling counts the classes' shares anew."""


class UniformOrder:
    """Shuffled passes over some images, one after another.

    Args:
        images: their indices, 1 or more.
        seed: the run's seed.
        purpose: keeps pools apart, for example ``"source"``.
    """

    def __init__(self, images: Sequence[int], seed: int, purpose: str) -> None:
        self._images, self._seed, self._purpose = images, seed, purpose

    def __call__(self, draw: int) -> int:
        """The image of one draw."""
        size = len(self._images)
        sweep, position = divmod(draw, size)
        order = _shuffled(size, derive_seed(self._seed, self._purpose, "order", sweep))
        return self._images[int(order[position])]


class BalancedOrder:
    """Rare classes more often: draw a class, then the next image that holds it (Xie et al., CVPR 2022, public code).

    A class is drawn with probability proportional to ``1 / log(1.01 + share)``, where ``share`` is its part of the
    labelled pixels drawn so far, counted anew every 3,000 draws; a class that no image holds is never drawn. Each
    class walks through its own images, shuffled, and shuffles them anew at the end. Any draw can be asked at any time.

    Args:
        pixels: ``(N, C)`` pixels of each class in each image, see :class:`~ripu_lightning.data.statistics.Statistics`.
        seed: the run's seed.
        purpose: keeps pools apart, for example ``"source"``.

    Raises:
        UserError: no image holds any class.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], seed: int, purpose: str) -> None:
        self._pixels, self._seed, self._purpose = pixels, seed, purpose
        self._holders = [np.flatnonzero(column) for column in pixels.T]
        self._held = pixels.any(axis=0)
        if not self._held.any():
            raise UserError("data.source_sampling: no label holds any class; use uniform, or check the class map")
        self._seen = np.zeros(pixels.shape[1], dtype=np.int64)  # pixels of each class drawn so far
        self._walked = np.zeros(pixels.shape[1], dtype=np.int64)  # draws of each class so far
        self._blocks: list[npt.NDArray[np.int64]] = []

    def __call__(self, draw: int) -> int:
        """The image of one draw; what lies before it is worked out at first and kept."""
        block, position = divmod(draw, RECOUNT)
        while len(self._blocks) <= block:
            self._blocks.append(self._next_block())
        return int(self._blocks[block][position])

    def _next_block(self) -> npt.NDArray[np.int64]:
        share = self._seen / max(self._seen.sum(), 1)
        weights = np.where(self._held, 1 / np.log(1.01 + share), 0)
        generator = np.random.default_rng(derive_seed(self._seed, self._purpose, "classes", len(self._blocks)))
        classes = generator.choice(len(weights), RECOUNT, p=weights / weights.sum())
        block = np.empty(RECOUNT, dtype=np.int64)
        for label in np.unique(classes):
            block[classes == label] = self._walk(int(label), int((classes == label).sum()))
        self._seen += self._pixels[block].sum(axis=0)
        return block

    def _walk(self, label: int, count: int) -> npt.NDArray[np.int64]:
        holders, first = self._holders[label], int(self._walked[label])
        self._walked[label] += count
        sweeps = range(first // len(holders), (first + count - 1) // len(holders) + 1)
        seeds = [derive_seed(self._seed, self._purpose, "class", label, sweep) for sweep in sweeps]
        walk = np.concatenate([holders[_shuffled(len(holders), seed)] for seed in seeds])
        return walk[first - sweeps[0] * len(holders) :][:count]


class StepBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches for the steps ``start <= step < stop`` of a run, as lists of ``(index, draw)``.

    All ranks together walk through one endless sequence; ``draw`` counts along it and seeds the sample's
    augmentation. A run that goes on at step 700 sees what it would have seen; its length stays ``stop - start``,
    because Lightning counts the batches before a checkpoint itself.

    Args:
        order: which image each draw gives.
        batch_size: images a step and process.
        start: first step.
        stop: one past the last step.
        rank: this process.
        world_size: number of processes.
        resume: the step to go on from, later than ``start`` where a checkpoint lies between.
    """

    def __init__(
        self, order: Order, batch_size: int, start: int, stop: int, rank: int, world_size: int, resume: int = 0
    ) -> None:
        self.order, self.batch_size = order, batch_size
        self.start, self.stop, self.resume = start, stop, resume
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.stop - self.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(max(self.start, self.resume), self.stop):
            first = (step * self.world_size + self.rank) * self.batch_size
            yield [(self.order(draw), draw) for draw in range(first, first + self.batch_size)]


class ShardSampler(Sampler[int]):
    """Every ``world_size``-th image, unpadded: evaluation and acquisition count each image exactly once."""

    def __init__(self, size: int, rank: int, world_size: int) -> None:
        self._indices = range(rank, size, world_size)

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)


class ShardBatchSampler(BatchSampler):
    """Batches of a :class:`ShardSampler`'s images; a process without any gets one empty batch.

    Lightning skips an evaluation where there is no batch, and the others would wait for its part in the sums.

    Args:
        size: number of images, 1 or more.
        batch_size: images a batch; the last one may hold fewer.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int) -> None:
        super().__init__(ShardSampler(size, rank, world_size), batch_size, drop_last=False)

    def __len__(self) -> int:
        return max(super().__len__(), 1)

    def __iter__(self) -> Iterator[list[int]]:
        return iter([*super().__iter__()] or [[]])


@lru_cache(maxsize=8)
def _shuffled(size: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(size)
