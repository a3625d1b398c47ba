"""The DataModule: source, target-unlabelled and target-labelled pools, and the target's evaluation split."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from ripu_lightning.data.dataset import IGNORE, SegmentationDataset, UInt8Array
from ripu_lightning.data.pools import (
    EvalBatch,
    EvalPool,
    MaskReader,
    Segmenter,
    TrainPool,
    collate_eval,
    collate_train,
)
from ripu_lightning.data.samplers import ShardSampler, StepBatchSampler
from ripu_lightning.data.transforms import Transform
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore

Size = tuple[int, int]


class ActiveDataModule(LightningDataModule):
    """Pools of a domain pair; what is labelled on the target follows from the label store alone.

    A training batch is ``{"source": TrainBatch, "target": TrainBatch}``. The target batch is drawn from all target
    images: its labels hold what was bought (255 elsewhere), its images serve the terms that need no labels.

    Args:
        source: labelled source domain, for training.
        target: target domain, for training and acquisition.
        target_eval: target domain, for validation and test.
        source_size: ``(H, W)`` of the network's input for source images; None keeps their own size.
        target_size: likewise for target images.
        augment: see :class:`Transform`.
        batch_size: images of each domain a step and process.
        eval_batch_size: images a step in evaluation and acquisition.
        num_workers: loader processes a loader.
        target_labels: ``bought`` reads the store; ``all`` reads the truth (the fully supervised bound).
        seed: the run's seed.

    Raises:
        UserError: domains with different classes or without images, or values out of range.
    """

    def __init__(
        self,
        source: SegmentationDataset,
        target: SegmentationDataset,
        target_eval: SegmentationDataset,
        source_size: Sequence[int] | None = None,
        target_size: Sequence[int] | None = None,
        augment: Sequence[str] = (),
        batch_size: int = 2,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        target_labels: Literal["bought", "all"] = "bought",
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_arguments(batch_size, eval_batch_size, num_workers, target_labels)
        self.source, self.target, self.target_eval = source, target, target_eval
        for name, dataset in (("source", source), ("target", target), ("target_eval", target_eval)):
            if not len(dataset):
                raise UserError(f"data.{name}: has no images; expected 1 or more")
            if dataset.classes.names != source.classes.names:
                raise UserError(
                    f"data.{name}: its classes ({', '.join(dataset.classes.names)}) are not the source's "
                    f"({', '.join(source.classes.names)}); use one class map for both domains"
                )
        if target_labels == "all" and not target.has_labels:
            raise UserError("data.target_labels: all reads the target's labels, but data.target has none; use bought")
        self.classes = source.classes
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.target_labels, self.seed = target_labels, seed
        self._train_transforms = {
            "source": Transform(_size("source_size", source_size), augment),
            "target": Transform(_size("target_size", target_size), augment),
        }
        self._eval_transforms = {
            "source": Transform(_size("source_size", source_size)),
            "target": Transform(_size("target_size", target_size)),
        }
        self._fixed_sizes = {"source": source_size is not None, "target": target_size is not None}
        # Set by the ActiveLearningLoop (or by hand): the store, and for each epoch the steps it spans.
        self.store: LabelStore | None = None
        self.spans: Sequence[tuple[int, int]] = ()

    def hide_truth(self) -> None:
        """Put the labels of the target's training images out of everybody's reach."""
        if self.target.has_labels:
            self.target = Unlabelled(self.target)

    def check(self, world_size: int = 1) -> None:
        """Read every file once, and see that batches can be made of them by so many processes.

        Raises:
            UserError: the first fault, before any training.
        """
        if len(self.target_eval) < world_size:
            raise UserError(
                f"data.target_eval: {len(self.target_eval)} image(s) for {world_size} processes; "
                "every process needs one: fewer trainer.devices"
            )
        eval_size = self.eval_batch_size
        self._check_sizes("source", self.source, self.batch_size)
        self._check_sizes("target", self.target, max(self.batch_size, eval_size))
        self._check_sizes("target", self.target_eval, eval_size)
        for dataset in (self.source, self.target, self.target_eval):
            dataset.check()

    def _check_sizes(self, domain: str, dataset: SegmentationDataset, batch_size: int) -> None:
        sizes = {dataset.size(index) for index in range(len(dataset))}
        if batch_size > 1 and len(sizes) > 1 and not self._fixed_sizes[domain]:
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
        start, stop = self.spans[epoch]
        loaders = {
            "source": self._train_loader("source", self.source, self.source.label, start, stop),
            "target": self._train_loader("target", self.target, self._target_masks(epoch), start, stop),
        }
        return CombinedLoader(loaders, mode="min_size")  # both hold exactly stop - start batches

    def val_dataloader(self) -> DataLoader[EvalBatch]:
        """The target's evaluation split, at its own resolution, each image once over all ranks."""
        return self._eval_loader("target", self.target_eval, with_labels=True)

    def test_dataloader(self) -> DataLoader[EvalBatch]:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def pool_dataloader(self, segment: Segmenter | None = None) -> DataLoader[EvalBatch]:
        """All target training images for acquisition, without their truth, each once over all ranks.

        Args:
            segment: makes each image's regions, in the loader's workers.
        """
        return self._eval_loader("target", self.target, with_labels=False, segment=segment)

    def source_dataloader(self, segment: Segmenter | None = None) -> DataLoader[EvalBatch]:
        """All source images for statistics, without labels, each once over all ranks; see :meth:`pool_dataloader`."""
        return self._eval_loader("source", self.source, with_labels=False, segment=segment)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move evaluation batches by their own method; Lightning moves the rest."""
        if isinstance(batch, EvalBatch):
            return batch.to(device)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _target_masks(self, epoch: int) -> MaskReader:
        if self.target_labels == "all":
            return self.target.label
        # A resumed run may find later rounds in the store than its checkpoint knows: stage n trains on rounds 1..n.
        return _BoughtMasks(self.target, self.store, through=epoch)

    def _train_loader(
        self, purpose: str, dataset: SegmentationDataset, masks: MaskReader, start: int, stop: int
    ) -> DataLoader[Any]:
        rank, world_size = self._shard()
        resume = self.trainer.global_step if self.trainer else 0  # inside the span after a checkpoint amid a stage
        sampler = StepBatchSampler(
            len(dataset), self.batch_size, start, stop, self.seed, purpose, rank, world_size, resume
        )
        pool = TrainPool(dataset, masks, self._train_transforms[purpose], self.seed, purpose)
        return DataLoader(pool, batch_sampler=sampler, collate_fn=collate_train, **self._loader_options())

    def _eval_loader(
        self, domain: str, dataset: SegmentationDataset, with_labels: bool, segment: Segmenter | None = None
    ) -> DataLoader[EvalBatch]:
        rank, world_size = self._shard()
        return DataLoader(
            EvalPool(dataset, self._eval_transforms[domain], with_labels, segment),
            batch_size=self.eval_batch_size,
            sampler=ShardSampler(len(dataset), rank, world_size),
            collate_fn=collate_eval,
            **self._loader_options(),
        )

    def _loader_options(self) -> dict[str, Any]:
        return {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}

    def _shard(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class _BoughtMasks:
    """Masks of what was bought in rounds 1..through."""

    def __init__(self, dataset: SegmentationDataset, store: LabelStore | None, through: int) -> None:
        self._dataset, self._store, self._through = dataset, store, through

    def __call__(self, index: int) -> UInt8Array:
        if self._store is None or not self._through:
            return np.full(self._dataset.size(index), IGNORE, dtype=np.uint8)
        return self._store.mask(self._dataset.ids[index], self._through)


def _size(key: str, value: Iterable[int] | None) -> Size | None:
    if value is None:
        return None
    size = tuple(value) if isinstance(value, Iterable) else (value,)
    if len(size) != 2 or not all(isinstance(side, int) and side >= 1 for side in size):
        raise UserError(f"data.{key}: expected [height, width], got {value}")
    return size[0], size[1]


def _check_arguments(batch_size: int, eval_batch_size: int, num_workers: int, target_labels: str) -> None:
    for key, value, least in (
        ("batch_size", batch_size, 1),
        ("eval_batch_size", eval_batch_size, 1),
        ("num_workers", num_workers, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise UserError(f"data.{key}: expected a whole number, {least} or more, got {value!r}")
    if target_labels not in {"bought", "all"}:
        raise UserError(f"data.target_labels: expected bought or all, got {target_labels!r}")
