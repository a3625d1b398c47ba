"""The DataModule: source, target-unlabelled and target-labelled pools, and the target's evaluation split."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.pools import (
    BoughtMasks,
    EvalBatch,
    EvalPool,
    MaskReader,
    Segmenter,
    TrainPool,
    collate_eval,
    collate_train,
)
from ripu_lightning.data.prepared import Resized, parse_size
from ripu_lightning.data.samplers import BalancedOrder, Order, ShardBatchSampler, StepBatchSampler, UniformOrder
from ripu_lightning.data.statistics import load_statistics
from ripu_lightning.data.transforms import Transform
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.data.workers import end_with_parent, worker_start
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore


class ActiveDataModule(LightningDataModule):
    """Pools of a domain pair; what is labelled on the target follows from the label store alone.

    A training batch is ``{"source": TrainBatch, "labelled": TrainBatch, "target": TrainBatch}``, without the parts that
    no loss looks at (:attr:`domains`). The target part is drawn from all target images, for the terms that need no
    labels; the labelled part from those that were asked about, however few they are. Where all were, or none, there is
    one part for both, named target. Masks hold what was bought, 255 elsewhere.

    Args:
        source: labelled source domain, for training; None where it is out of reach (source-free).
        target: target domain, for training and acquisition.
        target_eval: target domain, for validation and test; None where nothing of the target is labelled.
        source_size: ``(H, W)`` of the network's input for source images; None keeps their own size.
        target_size: likewise for target images.
        augment: see :class:`Transform`.
        batch_size: images of each part of a batch, a step and process.
        eval_batch_size: images a step in evaluation; acquisition loads as many, and passes them one by one.
        num_workers: loader processes a loader.
        target_labels: ``bought`` reads the store; ``all`` reads the truth (the fully supervised bound).
        source_sampling: ``uniform``, or ``class_balanced``, which draws images with rare classes more often.
        cache: folder of what is derived from the data (statistics, prepared images); None keeps nothing.
        seed: the run's seed.

    Raises:
        UserError: domains with different classes or without images, or values out of range.
    """

    def __init__(
        self,
        source: SegmentationDataset | None,
        target: SegmentationDataset,
        target_eval: SegmentationDataset | None,
        source_size: Sequence[int] | None = None,
        target_size: Sequence[int] | None = None,
        augment: Sequence[str] = (),
        batch_size: int = 2,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        target_labels: Literal["bought", "all"] = "bought",
        source_sampling: Literal["uniform", "class_balanced"] = "uniform",
        cache: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_numbers(batch_size, eval_batch_size, num_workers)
        _check_choice("target_labels", target_labels, ("bought", "all"))
        _check_choice("source_sampling", source_sampling, ("uniform", "class_balanced"))
        self.source, self.target, self.target_eval = source, target, target_eval
        self.classes = target.classes
        for name, dataset in (("source", source), ("target", target), ("target_eval", target_eval)):
            if dataset is not None:
                _check_dataset(name, dataset, self.classes.names)
        if target_labels == "all" and not target.has_labels:
            raise UserError("data.target_labels: all reads the target's labels, but data.target has none; use bought")
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.target_labels, self.source_sampling, self.seed = target_labels, source_sampling, seed
        self.cache = DataCache(cache)
        self._sizes = {
            "source": parse_size("source_size", source_size),
            "target": parse_size("target_size", target_size),
        }
        self._train_transform, self._eval_transform = Transform(augment), Transform()
        # Set by the ActiveLearningLoop (or by hand): the store, for each epoch the steps it spans, and the number of
        # rounds that the first epoch trains on already.
        self.store: LabelStore | None = None
        self.spans: Sequence[tuple[int, int]] = ()
        self.early = 0
        # What the losses look at: anything, or less (WeightedLosses.images).
        self.domains: frozenset[str] = frozenset({"target", "labelled"} | (set() if source is None else {"source"}))

    def hide_truth(self) -> None:
        """Put the labels of the target's training images out of everybody's reach.

        Raises:
            UserError: the data set has looked at them already.
        """
        if self.target.compares_labels:
            raise UserError(
                "data.target.mismatch: skip looks at the target's labels, which nobody is to read in this run; "
                "use error or resize"
            )
        if self.target.has_labels:
            self.target = Unlabelled(self.target)

    def check(self, truth: bool = True) -> None:
        """Read every file once, and see that batches can be made of them.

        Args:
            truth: also read the labels of the target's training images.

        Raises:
            UserError: the first fault, before any training.
        """
        eval_size = self.eval_batch_size
        self._check_sizes("source", self.source, self.batch_size)
        self._check_sizes("target", self.target, max(self.batch_size, eval_size))
        self._check_sizes("target", self.target_eval, eval_size)
        if self.source is not None and "source" in self.domains and not self.source.has_labels:
            raise UserError("data.source: has no labels, but the loss learns from them; give data.source.labels")
        for dataset in (self.source, self.target, self.target_eval):
            if dataset is not None:
                self.cache.check(dataset, labels=truth or dataset is not self.target)
        if "source" in self.domains:
            _ = self._source_order  # counts the pixels of the source where its sampling needs them

    @property
    def target_size(self) -> tuple[int, int] | None:
        """``(H, W)`` of the network's input for target images; None where it is that of the files."""
        return self._sizes["target"]

    def _check_sizes(self, domain: str, dataset: SegmentationDataset | None, batch_size: int) -> None:
        if dataset is None or batch_size == 1 or self._sizes[domain]:
            return
        sizes = {dataset.size(index) for index in range(len(dataset))}
        if len(sizes) > 1:
            first, second = sorted(sizes)[:2]
            raise UserError(
                f"data.{domain}_size: images of several sizes ({first[0]}x{first[1]}, {second[0]}x{second[1]}, ...) "
                f"can not be stacked; give data.{domain}_size=[height,width]"
            )

    def train_dataloader(self) -> CombinedLoader:
        """Loaders of this epoch's steps, built anew: their workers see all labels bought so far."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        if epoch >= len(self.spans):
            raise UserError(f"no steps are planned for epoch {epoch}; give the datamodule its spans of steps")
        span = self.spans[epoch]
        loaders = {}
        if self.source is not None and "source" in self.domains:
            source = self._resized("source", self.source)
            loaders["source"] = self._train_loader("source", source, source.label, self._source_order, *span)
        for purpose, images in self._target_pools(epoch).items():
            target = self._resized("target", self.target)
            masks, order = self._target_masks(target, epoch), UniformOrder(images, self.seed, purpose)
            loaders[purpose] = self._train_loader(purpose, target, masks, order, *span)
        return CombinedLoader(loaders, mode="min_size")  # each holds exactly the span's batches

    def val_dataloader(self) -> DataLoader[EvalBatch] | list[Any]:
        """The target's evaluation split, at its own resolution, each image once over all ranks."""
        if self.target_eval is None:
            return []
        return self._eval_loader("target", self.target_eval, with_labels=self.target_eval.has_labels)

    def test_dataloader(self) -> DataLoader[EvalBatch] | list[Any]:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def pool_dataloader(self, segment: Segmenter | None = None) -> DataLoader[EvalBatch]:
        """All target training images for acquisition, without their truth, each once over all ranks.

        Args:
            segment: makes each image's regions, in the loader's workers.
        """
        return self._eval_loader("target", self.target, with_labels=False, segment=segment)

    def source_dataloader(self, segment: Segmenter | None = None) -> DataLoader[EvalBatch]:
        """All source images for statistics, without labels, each once over all ranks; see :meth:`pool_dataloader`.

        Raises:
            UserError: there is no source.
        """
        if self.source is None:
            raise UserError("data.source: null, but the strategy learns from the source; choose another strategy")
        return self._eval_loader("source", self.source, with_labels=False, segment=segment)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move evaluation batches by their own method; Lightning moves the rest."""
        if isinstance(batch, EvalBatch):
            return batch.to(device)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _resized(self, domain: str, dataset: SegmentationDataset) -> Resized:
        return Resized(dataset, self._sizes[domain], self.cache)

    def _target_pools(self, epoch: int) -> dict[str, Sequence[int]]:
        """The target's parts of a training batch, and the images that each is drawn from."""
        every, labelled = range(len(self.target)), self._labelled(epoch)
        apart = 0 < len(labelled) < len(every)
        pools: dict[str, Sequence[int]] = {}
        # Before the target's, which passes last: it is what BatchNorm's running statistics are to describe.
        if "labelled" in self.domains and apart:
            pools["labelled"] = labelled
        if "target" in self.domains or ("labelled" in self.domains and not apart):
            pools["target"] = every
        return pools

    def _labelled(self, epoch: int) -> Sequence[int]:
        """The target images that were asked about before this epoch; all of them where nobody is asked."""
        if self.target_labels == "all" or self.store is None:
            return range(len(self.target))
        touched = set(self.store.touched_through(epoch + self.early))
        return [index for index, image_id in enumerate(self.target.ids) if image_id in touched]

    def _target_masks(self, target: Resized, epoch: int) -> MaskReader:
        if self.target_labels == "all":
            return target.label
        # A resumed run may find later rounds in the store than its checkpoint knows: each epoch trains on its own.
        return BoughtMasks(target, self.store, through=epoch + self.early)

    @cached_property
    def _source_order(self) -> Order:
        assert self.source is not None
        if self.source_sampling == "uniform":
            return UniformOrder(range(len(self.source)), self.seed, "source")
        pixels = load_statistics(self.source, self.cache, self.num_workers).pixels
        return BalancedOrder(pixels, self.seed, "source")

    def _train_loader(
        self, purpose: str, pictures: Resized, masks: MaskReader, order: Order, start: int, stop: int
    ) -> DataLoader[Any]:
        rank, world_size = self._shard()
        resume = self.trainer.global_step if self.trainer else 0  # inside the span after a checkpoint amid a stage
        sampler = StepBatchSampler(order, self.batch_size, start, stop, rank, world_size, resume)
        pool = TrainPool(pictures, masks, self._train_transform, self.seed, purpose)
        return StepLoader(pool, batch_sampler=sampler, collate_fn=collate_train, **self._loader_options())

    def _eval_loader(
        self, domain: str, dataset: SegmentationDataset, with_labels: bool, segment: Segmenter | None = None
    ) -> DataLoader[EvalBatch]:
        rank, world_size = self._shard()
        return DataLoader(
            EvalPool(self._resized(domain, dataset), self._eval_transform, with_labels, segment),
            batch_sampler=ShardBatchSampler(len(dataset), self.eval_batch_size, rank, world_size),
            collate_fn=collate_eval,
            **self._loader_options(),
        )

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "multiprocessing_context": worker_start(self.num_workers),
            "pin_memory": torch.cuda.is_available(),
            "worker_init_fn": end_with_parent,
        }

    def _shard(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class StepLoader(DataLoader[Any]):
    """Goes on amid a stage, and tells Lightning so; where it goes on follows from the step, so there is no state."""

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""


def _check_dataset(name: str, dataset: SegmentationDataset, classes: Sequence[str]) -> None:
    if not len(dataset):
        raise UserError(f"data.{name}: has no images; expected 1 or more")
    if tuple(dataset.classes.names) != tuple(classes):
        raise UserError(
            f"data.{name}: its classes ({', '.join(dataset.classes.names)}) are not the target's "
            f"({', '.join(classes)}); use one class map for both domains"
        )


def _check_numbers(batch_size: int, eval_batch_size: int, num_workers: int) -> None:
    for key, value, least in (
        ("batch_size", batch_size, 1),
        ("eval_batch_size", eval_batch_size, 1),
        ("num_workers", num_workers, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise UserError(f"data.{key}: expected a whole number, {least} or more, got {value!r}")


def _check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"data.{key}: expected {' or '.join(known)}, got {value!r}")
