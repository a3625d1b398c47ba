"""What several strategies would query with one network: a callback of a test run over the target's pool."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import reduce
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ripu_lightning.acquisition import Budget, Strategy
from ripu_lightning.annotation import Query
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.data.pools import EvalBatch
from ripu_lightning.evaluation.sliding_window import SlidingWindow
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.masks import box_pixels
from ripu_lightning.report.replay.comparison_files import ReplayPictures
from ripu_lightning.report.replay.query_counts import BoolArray, Counts, count
from ripu_lightning.training.acquire import select_queries
from ripu_lightning.training.pool_inference import PoolImage, PoolInference, require_outputs
from ripu_lightning.training.ranks import Ranks


@dataclass(frozen=True)
class TimedInference(PoolInference):
    """Pool inference that notes the wall time, in ``seconds``, of reading and of the network."""

    seconds: dict[str, float] = field(default_factory=lambda: {"reading": 0.0, "network": 0.0})

    def run(
        self, loader: Iterable[Any], image_sizes: Mapping[str, tuple[int, int]] | None, title: str
    ) -> Iterator[PoolImage]:
        """See :class:`~ripu_lightning.training.pool_inference.PoolInference`."""
        return super().run(_TimedLoader(loader, self.seconds), image_sizes, title)

    def forward(self, image: Tensor) -> Any:
        """See :class:`~ripu_lightning.training.pool_inference.PoolInference`."""
        start = _now(image.device)
        output = super().forward(image)
        self.seconds["network"] += _now(image.device) - start
        return output


class Replay(Callback):
    """Lets each strategy select once, as a round of training would, and counts its queries against the truth.

    Give it to ``Trainer.test`` with the target's pool as the datamodule's ``target_eval``; the queries are selected
    before the first batch. Every process counts its own images.

    Args:
        datamodule: of the test.
        strategies: by the name in tables.
        budget: how much, in which rounds.
        store: what is labelled already; the round is the next one.
        seed: of the run that trained the network.
        resize_twice: see :class:`~ripu_lightning.training.pool_inference.PoolInference`.
        window: likewise.
        pictures: draws some of the images.

    Attributes:
        counts: of all processes, on rank 0 after the test.
        seconds: by strategy, wall time for an image of the pool: ``reading`` (with superpixels, if any), ``network``
            and ``scoring``, which is all the rest; of the process that took longest.
    """

    def __init__(
        self,
        datamodule: ActiveDataModule,
        strategies: Mapping[str, Strategy],
        budget: Budget,
        store: LabelStore,
        seed: int,
        resize_twice: bool,
        window: SlidingWindow | None,
        pictures: ReplayPictures,
    ) -> None:
        self.datamodule = datamodule
        self.strategies, self.budget, self.store = strategies, budget, store
        self.seed, self.resize_twice, self.window, self.pictures = seed, resize_twice, window, pictures
        self.counts: Counts | None = None
        self.seconds: dict[str, dict[str, float]] = {}
        self._queries: dict[str, dict[int, Query]] = {}
        self._parts: list[Counts] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Select the queries. Raises :class:`UserError` as a round of training does."""
        number, self._ranks = len(self.store.rounds) + 1, Ranks(trainer)
        inferences = {
            name: TimedInference(trainer, pl_module, strategy, number, self.seed, self.resize_twice, self.window)
            for name, strategy in self.strategies.items()
        }
        for each in inferences.values():
            require_outputs(each, self.datamodule)
        for name, each in inferences.items():
            start = perf_counter()
            queries = select_queries(each, self.datamodule, self.store, self.budget, self._ranks)
            each.seconds["scoring"] = perf_counter() - start - sum(each.seconds.values())
            self.seconds[name] = {part: value / len(self.datamodule.target) for part, value in each.seconds.items()}
            self._queries[name] = {query.index: query for query in queries}

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: EvalBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one batch, whose predictions are in ``outputs``, and draw those of its images that have pictures."""
        for index, size, label, predicted in zip(
            batch.indices, batch.sizes, batch.labels, outputs["predictions"], strict=True
        ):
            queried = {name: queried_pixels(queries.get(index), size) for name, queries in self._queries.items()}
            truth, guess = label.cpu().numpy(), predicted.to(torch.uint8).cpu().numpy()
            pool = self.store.query_round(self.datamodule.target.ids[index]) == 0
            self._parts.append(count(truth, guess, np.stack(list(queried.values())), pool, len(self.store.classes)))
            self.pictures.draw(index, guess, queried)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up the counts of all processes, on rank 0."""
        own = [(reduce(Counts.__add__, self._parts), self.seconds)] if self._parts else []
        found = [each for part in self._ranks.gather(own, "counts") for each in part]
        if trainer.is_global_zero:
            self.counts = reduce(Counts.__add__, [counts for counts, _ in found])
            for name in self.strategies:
                self.seconds[name] = max((seconds[name] for _, seconds in found), key=lambda each: sum(each.values()))


def queried_pixels(query: Query | None, size: tuple[int, int]) -> BoolArray:
    """The pixels ``(H, W)`` of an image's query; none without a query."""
    queried = np.zeros(size, dtype=np.bool_)
    if query is not None:
        pixels = box_pixels(query.boxes, size[1])
        queried.reshape(-1)[pixels if query.inside is None else pixels[query.inside]] = True
    return queried


class _TimedLoader:
    """A loader that notes how long one waits for it."""

    def __init__(self, loader: Iterable[EvalBatch], seconds: dict[str, float]) -> None:
        self._loader, self._seconds = loader, seconds

    def __len__(self) -> int:
        return len(cast(Sized, self._loader))  # a DataLoader, which is no Sized by its type

    def __iter__(self) -> Iterator[EvalBatch]:
        batches = iter(self._loader)
        while True:
            start = perf_counter()
            batch = next(batches, None)
            self._seconds["reading"] += perf_counter() - start
            if batch is None:
                return
            yield batch


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # kernels run asynchronously
    return perf_counter()
