"""What several strategies would buy with one network: a callback of a test run over the target's pool."""

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
from ripu_lightning.labels import LabelStore
from ripu_lightning.labels.painting import box_pixels
from ripu_lightning.report.replay.counts import BoolArray, Counts, count
from ripu_lightning.report.replay.drawing import Composites
from ripu_lightning.training.acquire import pick_queries
from ripu_lightning.training.passes import Passes, PoolImage, require_features
from ripu_lightning.training.ranks import Ranks


@dataclass(frozen=True)
class TimedPasses(Passes):
    """Passes that note the wall time, in ``seconds``, of reading and of the network."""

    seconds: dict[str, float] = field(default_factory=lambda: {"reading": 0.0, "network": 0.0})

    def run(self, loader: Iterable[EvalBatch], title: str) -> Iterator[PoolImage]:
        """See :class:`~ripu_lightning.training.passes.Passes`."""
        return super().run(_Timed(loader, self.seconds), title)

    def forward(self, image: Tensor) -> Any:
        """See :class:`~ripu_lightning.training.passes.Passes`."""
        start = _now(image.device)
        output = super().forward(image)
        self.seconds["network"] += _now(image.device) - start
        return output


class Replay(Callback):
    """Lets each strategy pick once, as a round of training would, and counts what it picked against the truth.

    Give it to ``Trainer.test`` with the target's pool as the datamodule's ``target_eval``; the picks are made before
    the first batch. Every process counts its own images.

    Args:
        datamodule: of the test.
        strategies: by the name in tables.
        budget: how much, in which rounds.
        store: what was bought already; the round is the one that follows.
        seed: of the run that trained the network.
        resize_twice: see :class:`~ripu_lightning.training.passes.Passes`.
        composites: draws some of the images.

    Attributes:
        counts: of all processes, on rank 0 after the test.
        seconds: by strategy, wall time for an image of the pool: ``reading`` (with superpixels, if any), ``network``
            and ``scoring``, all the rest; of the process that took longest.
    """

    def __init__(
        self,
        datamodule: ActiveDataModule,
        strategies: Mapping[str, Strategy],
        budget: Budget,
        store: LabelStore,
        seed: int,
        resize_twice: bool,
        composites: Composites,
    ) -> None:
        self.datamodule = datamodule
        self.strategies, self.budget, self.store = strategies, budget, store
        self.seed, self.resize_twice, self.composites = seed, resize_twice, composites
        self.counts: Counts | None = None
        self.seconds: dict[str, dict[str, float]] = {}
        self._queries: dict[str, dict[int, Query]] = {}
        self._parts: list[Counts] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Pick. Raises :class:`UserError` as a round of training does."""
        datamodule = self.datamodule
        number = len(self.store.rounds) + 1
        self._ranks = Ranks(trainer)
        passes = {
            name: TimedPasses(trainer, pl_module, strategy, number, self.seed, self.resize_twice)
            for name, strategy in self.strategies.items()
        }
        for each in passes.values():
            require_features(each, datamodule)
        for name, each in passes.items():
            start = perf_counter()
            queries = pick_queries(each, datamodule, self.store, self.budget, self._ranks)
            each.seconds["scoring"] = perf_counter() - start - sum(each.seconds.values())
            self.seconds[name] = {part: value / len(datamodule.target) for part, value in each.seconds.items()}
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
        """Count one batch, whose predictions are in ``outputs``, and draw what is to be drawn of it."""
        for index, size, label, predicted in zip(
            batch.indices, batch.sizes, batch.labels, outputs["predictions"], strict=True
        ):
            image_id = self.datamodule.target.ids[index]
            bought = {name: asked_pixels(queries.get(index), size) for name, queries in self._queries.items()}
            truth, guess = label.cpu().numpy(), predicted.to(torch.uint8).cpu().numpy()
            left, classes = self.store.asked(image_id) == 0, len(self.store.classes)
            self._parts.append(count(truth, guess, np.stack(list(bought.values())), left, classes))
            self.composites.draw(index, guess, bought)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up the counts of all processes, on rank 0."""
        own = [(reduce(Counts.__add__, self._parts), self.seconds)] if self._parts else []
        found = [each for part in self._ranks.gather(own, "counts") for each in part]
        if trainer.is_global_zero:
            self.counts = reduce(Counts.__add__, [counts for counts, _ in found])
            for name in self.strategies:
                self.seconds[name] = max((seconds[name] for _, seconds in found), key=lambda each: sum(each.values()))


def asked_pixels(query: Query | None, size: tuple[int, int]) -> BoolArray:
    """Which pixels ``(H, W)`` a query asks for; none where there is no query."""
    asked = np.zeros(size, dtype=np.bool_)
    if query is not None:
        pixels = box_pixels(query.boxes, size[1])
        asked.reshape(-1)[pixels if query.inside is None else pixels[query.inside]] = True
    return asked


class _Timed:
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
        torch.cuda.synchronize(device)  # it works behind our back
    return perf_counter()
