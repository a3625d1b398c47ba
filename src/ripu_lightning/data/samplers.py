"""Samplers and a loader without state: the image of a draw is a function of the images and of (seed, purpose, draw)."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import BatchSampler, DataLoader, Sampler

from ripu_lightning.errors import InvalidArgument
from ripu_lightning.seeding import derive_seed

Order = Callable[[int], int]
"""Number of a draw, counted over the whole run -> index of the image that is drawn."""

RECOUNT = 3000
"""Draws after which class-balanced sampling counts the shares of the classes again."""


class UniformOrder:
    """Shuffled passes over some images, one after another.

    Args:
        images: their indices, 1 or more.
        seed: the run's seed.
        purpose: of the pool, for example ``"source"``; each purpose has its own order.
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
    """Rare classes more often: draw a class, then its next image (Xie et al., CVPR 2022, public code).

    The probability of a class is proportional to ``1 / log(1.01 + share)``, where ``share`` is its part of the
    labelled pixels drawn so far, counted again every 3,000 draws. A class that is in no image is never drawn. Each
    class goes through its own images in shuffled passes. Draws may be requested in any order.

    Args:
        pixels: ``(N, C)`` pixels of each class in each image, see :class:`~ripu_lightning.data.statistics.Statistics`.
        seed: the run's seed.
        purpose: of the pool; each purpose has its own order.

    Raises:
        InvalidArgument: no image contains any class.
    """

    def __init__(self, pixels: npt.NDArray[np.int64], seed: int, purpose: str) -> None:
        self._pixels, self._seed, self._purpose = pixels, seed, purpose
        self._holders = [np.flatnonzero(column) for column in pixels.T]
        self._held = pixels.any(axis=0)
        if not self._held.any():
            problem = "is 'class_balanced', but no label contains any class; use 'uniform', or check the class map"
            raise InvalidArgument("ActiveDataModule", "source_sampling", problem)
        self._seen = np.zeros(pixels.shape[1], dtype=np.int64)  # pixels of each class drawn so far
        self._walked = np.zeros(pixels.shape[1], dtype=np.int64)  # draws of each class so far
        self._blocks: list[npt.NDArray[np.int64]] = []

    def __call__(self, draw: int) -> int:
        """The image of one draw; earlier blocks of draws are computed first, and kept."""
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

    All ranks together go through one endless sequence; ``draw`` is the position in it and seeds the augmentation of
    the sample. A run that resumes at step 700 gets the same batches from there. The length stays that of
    all steps, because Lightning itself counts the batches before the checkpoint.

    Args:
        order: which image each draw gives.
        batch_size: images of each step and process.
        start: first step.
        stop: one past the last step.
        rank: this process.
        world_size: number of processes.
        resume: the step to resume at, later than ``start`` if a checkpoint was written between.
        batches: of each step: those whose gradients are added up.
    """

    def __init__(
        self,
        order: Order,
        batch_size: int,
        start: int,
        stop: int,
        rank: int,
        world_size: int,
        resume: int = 0,
        batches: int = 1,
    ) -> None:
        self.order, self.batch_size = order, batch_size
        self.start, self.stop, self.resume = start, stop, resume
        self.rank, self.world_size, self.batches = rank, world_size, batches

    def __len__(self) -> int:
        return (self.stop - self.start) * self.batches

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for batch in range(max(self.start, self.resume) * self.batches, self.stop * self.batches):
            first = (batch * self.world_size + self.rank) * self.batch_size
            yield [(self.order(draw), draw) for draw in range(first, first + self.batch_size)]


class StepLoader(DataLoader[Any]):
    """Tells Lightning that it can resume within a stage. It has no state: the step decides where it resumes."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""


class ShardBatchSampler(BatchSampler):
    """Batches of every ``world_size``-th image without padding: the processes together use each image exactly once.

    A process without images gets one empty batch. Without it, Lightning would skip the evaluation in that process, and
    the others would wait for its sums.

    Args:
        size: number of images, 1 or more.
        batch_size: images of a batch; the last one may have fewer.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(self, size: int, batch_size: int, rank: int, world_size: int) -> None:
        super().__init__(range(rank, size, world_size), batch_size, drop_last=False)

    def __len__(self) -> int:
        return max(super().__len__(), 1)

    def __iter__(self) -> Iterator[list[int]]:
        return iter([*super().__iter__()] or [[]])


@lru_cache(maxsize=8)
def _shuffled(size: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(size)
