"""The DataModule: loaders over the source, the target pool, its labelled images, and the evaluation split."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import DataLoader

from ripu_lightning.data.cache import DataCache
from ripu_lightning.data.crops import RandomCrop, inverse_frequency, parse_crops
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.data.dataset_check import require_dataset, require_one_size
from ripu_lightning.data.memory import Memory
from ripu_lightning.data.pools import (
    EvalBatch,
    EvalPool,
    QueriedMasks,
    Segmenter,
    TrainPool,
    collate_eval,
    collate_train,
)
from ripu_lightning.data.prepared import Resized, parse_size
from ripu_lightning.data.samplers import (
    BalancedOrder,
    Order,
    ShardBatchSampler,
    StepBatchSampler,
    StepLoader,
    UniformOrder,
)
from ripu_lightning.data.statistics import load_statistics
from ripu_lightning.data.transforms import MEAN, STD, Transform
from ripu_lightning.data.unlabelled import Unlabelled
from ripu_lightning.data.workers import end_with_parent, worker_start
from ripu_lightning.errors import InvalidArgument, UserError, require_choice, require_integer
from ripu_lightning.labels import QueriedLabels, Stage

OWNER = "ActiveDataModule"


class ActiveDataModule(LightningDataModule):
    """Loads a labelled source domain, and a target domain whose labels are queried during training.

    A training batch is a dictionary of :class:`~ripu_lightning.data.TrainBatch`, in every stage one for each of
    :attr:`domains`: ``source``; ``labelled``, drawn from the target images with queried pixels; ``target``, drawn from
    all target images. Target masks hold the queried labels, 255 elsewhere. Where no image or every image was queried,
    :meth:`on_after_batch_transfer` makes ``labelled`` the same object as ``target``: one forward pass serves both.

    Args:
        source: labelled source domain, for training; None where it must not be used (source-free).
        target: target domain, for training and acquisition (the pool).
        target_eval: target domain, for validation and test; None where nothing of the target is labelled.
        source_size: ``(H, W)`` of the network's input for source images; None keeps their own size.
        target_size: likewise for target images.
        crop: ``(h, w)`` of a random part of each image to train on; None trains on complete images. Evaluation and
            acquisition always see complete images.
        source_crop: likewise for source images alone; None is ``crop``.
        target_crop: likewise for target images alone.
        scale_range: smallest and largest factor by which images are scaled before they are cropped.
        source_crop_at: ``uniform``, or ``class_aware``, which draws parts with rare classes of the source more often;
            see :class:`~ripu_lightning.data.crops.RandomCrop`.
        target_crop_at: ``uniform``, or ``labelled``: the parts of the ``labelled`` images contain labelled pixels.
        augment: names, or a callable; see :class:`~ripu_lightning.data.transforms.Transform`. It gets the crops.
        strong_augment: likewise, for colours only: a second, stronger view of the target images, from which the
            network learns, while the teacher of self-training sees the first one.
        batch_size: images of each part of a training batch, for each process.
        eval_batch_size: images of a batch in evaluation and acquisition.
        num_workers: worker processes of each loader.
        target_labels: ``queried`` trains on the label store; ``all`` on the truth (the supervised bound).
        source_sampling: ``uniform``, or ``class_balanced``, which draws images with rare classes more often.
        cache: folder for what is derived from the data (statistics, prepared images); None keeps nothing.
        memory: megabytes of decoded training images, at the network's size, that each process keeps in memory for its
            workers; 0 keeps none. They are read once, before the first step.
        seed: of the order of images and of their augmentation.
        mean: of each RGB channel in 0..1, subtracted from all images; None subtracts nothing.
        std: by which they are divided then; None divides by nothing. Without both, images are in 0..1.

    Attributes:
        domains: parts of a training batch, from ``source``, ``labelled`` and ``target``. A run may leave out what its
            losses do not look at: those images are never loaded.
        stage: the stage that :meth:`begin_stage` was given; None before.

    Raises:
        InvalidArgument: domains with different classes or without images, or values out of range.
    """

    def __init__(
        self,
        source: SegmentationDataset | None,
        target: SegmentationDataset,
        target_eval: SegmentationDataset | None,
        source_size: Sequence[int] | None = None,
        target_size: Sequence[int] | None = None,
        crop: Sequence[int] | None = None,
        source_crop: Sequence[int] | None = None,
        target_crop: Sequence[int] | None = None,
        scale_range: Sequence[float] = (1.0, 1.0),
        source_crop_at: Literal["uniform", "class_aware"] = "uniform",
        target_crop_at: Literal["uniform", "labelled"] = "uniform",
        augment: Sequence[str] | Callable[..., Any] = (),
        strong_augment: Sequence[str] | Callable[..., Any] = (),
        batch_size: int = 2,
        eval_batch_size: int = 1,
        num_workers: int = 0,
        target_labels: Literal["queried", "all"] = "queried",
        source_sampling: Literal["uniform", "class_balanced"] = "uniform",
        cache: str | Path | None = None,
        memory: int = 0,
        seed: int = 0,
        mean: Sequence[float] | None = MEAN,
        std: Sequence[float] | None = STD,
    ) -> None:
        super().__init__()
        require_integer(OWNER, "batch_size", batch_size, least=1)
        require_integer(OWNER, "eval_batch_size", eval_batch_size, least=1)
        require_integer(OWNER, "num_workers", num_workers)
        require_integer(OWNER, "memory", memory)
        require_choice(OWNER, "target_labels", target_labels, ("queried", "all"))
        require_choice(OWNER, "source_sampling", source_sampling, ("uniform", "class_balanced"))
        self.source, self.target, self.target_eval = source, target, target_eval
        self.classes = target.classes
        for name, dataset in (("source", source), ("target", target), ("target_eval", target_eval)):
            if dataset is not None:
                require_dataset(name, dataset, self.classes.names)
        if target_labels == "all" and not target.has_labels:
            raise InvalidArgument(OWNER, "target_labels", "is 'all', but target has no labels; use 'queried'")
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.target_labels, self.source_sampling, self.seed = target_labels, source_sampling, seed
        self.cache, self._memory = DataCache(cache), Memory(memory) if memory else None
        self._sizes = {
            name: parse_size(f"{name}_size", size) for name, size in (("source", source_size), ("target", target_size))
        }
        self._train_transforms = {
            "source": Transform(augment, mean, std, len(self.classes)),
            "target": Transform(augment, mean, std, len(self.classes), strong_augment),
        }
        self._eval_transform = Transform((), mean, std)
        self._crops = parse_crops(
            {"crop": crop, "source": source_crop, "target": target_crop},
            {"source": source_crop_at, "target": target_crop_at},
            scale_range,
            mean,
        )
        self.domains: frozenset[str] = frozenset({"labelled", "target"} | (set() if source is None else {"source"}))
        self.stage: Stage | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by index."""
        return self.classes.names

    @property
    def target_size(self) -> tuple[int, int] | None:
        """``(H, W)`` of the network's input for target images; None where each image keeps its own."""
        return self._sizes["target"]

    @cached_property
    def image_sizes(self) -> Mapping[str, tuple[int, int]]:
        """``(H, W)`` of each target image at its own resolution, by id, in the order of the pool."""
        return {image_id: self.target.size(index) for index, image_id in enumerate(self.target.ids)}

    def begin_stage(self, stage: Stage) -> None:
        """Set the steps and the labels of the training loaders that are built next."""
        self.stage = stage

    def hide_truth(self) -> None:
        """Make the labels of the target's training images unreadable, for a run in which they must not be seen.

        Raises:
            InvalidArgument: the data set has looked at them already.
        """
        if self.target.compares_labels:
            raise InvalidArgument(
                type(self.target).__name__,
                "mismatch",
                "is 'skip', which looks at labels that must not be read in this run; use 'error' or 'resize'",
            )
        if self.target.has_labels:
            self.target = Unlabelled(self.target)

    def check(self, truth: bool = True) -> None:
        """Read every file once, and check that batches can be made.

        Args:
            truth: also read the labels of the target's training images.

        Raises:
            UserError: the first fault, before any training.
        """
        trained = {domain: 1 if crop else self.batch_size for domain, crop in self._crops.items()}
        for name, dataset, batch_size in (
            ("source", self.source, trained["source"]),
            ("target", self.target, max(trained["target"], self.eval_batch_size)),
            ("target", self.target_eval, self.eval_batch_size),
        ):
            if dataset is not None and batch_size > 1 and self._sizes[name] is None:
                require_one_size(name, dataset)
        if self.source is not None and "source" in self.domains and not self.source.has_labels:
            raise InvalidArgument(OWNER, "source", "has no labels, but the loss learns from them; give labelled data")
        for dataset in (self.source, self.target, self.target_eval):
            if dataset is not None:
                self.cache.check(dataset, labels=truth or dataset is not self.target)
        if "source" in self.domains:
            _ = self._source_order, self._source_crop  # count the pixels of the source where they need them

    def train_dataloader(self) -> CombinedLoader:
        """Loaders for the steps of the stage, built for each stage: their workers read the labels of the stage.

        Raises:
            UserError: no stage has begun.
        """
        if self.stage is None:
            raise UserError(
                f"{OWNER}: no stage has begun; add an ActiveLearningLoop to the callbacks, or call begin_stage"
            )
        stage, loaders, transforms = self.stage, {}, self._train_transforms
        target = self._resized("target", self.target)
        if self._memory and self.domains & {"labelled", "target"}:
            # Before the source: it has fewer images, so that each is drawn more often.
            target.load(self._memory, self.target_labels == "all", self.num_workers)
        if self.source is not None and "source" in self.domains:
            source = self._resized("source", self.source)
            if self._memory:
                source.load(self._memory, True, self.num_workers)
            pool = TrainPool(source, source.label, self._source_crop, transforms["source"], self.seed, "source")
            loaders["source"] = self._train_loader(pool, self._source_order, stage)
        masks = target.label if self.target_labels == "all" else QueriedMasks(target, stage.labels)
        every, queried = range(len(self.target)), self._queried(stage.labels)
        one_pool = not 0 < len(queried) < len(every)
        # The target comes last: BatchNorm's running statistics must describe it.
        for domain in ("labelled", "target"):
            if domain not in self.domains or (domain == "labelled" and one_pool and "target" in self.domains):
                continue  # on_after_batch_transfer adds labelled images that are the target images
            purpose, images = ("labelled", queried) if domain == "labelled" and not one_pool else ("target", every)
            crop = self._crops["target"]
            if crop and purpose == "target" and not one_pool:
                crop = replace(crop, at="uniform")
            pool = TrainPool(target, masks, crop, transforms["target"], self.seed, purpose)
            loaders[domain] = self._train_loader(pool, UniformOrder(images, self.seed, purpose), stage)
        return CombinedLoader(loaders, mode="min_size")  # each holds exactly the batches of the stage

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Add the labelled part of a training batch where it is the target part: the same object, loaded once."""
        if isinstance(batch, dict) and "target" in batch and "labelled" in self.domains:
            target = batch.pop("target")
            batch.setdefault("labelled", target)
            batch["target"] = target  # last, see train_dataloader
        return batch

    def val_dataloader(self) -> DataLoader[EvalBatch] | list[Any]:
        """The target's evaluation split, at its own resolution, each image once over all processes."""
        if self.target_eval is None:
            return []
        return self._eval_loader("target", self.target_eval, with_labels=self.target_eval.has_labels)

    def test_dataloader(self) -> DataLoader[EvalBatch] | list[Any]:
        """As :meth:`val_dataloader`."""
        return self.val_dataloader()

    def pool_dataloader(self, segment: Segmenter | None = None) -> DataLoader[EvalBatch]:
        """All target training images for acquisition, without their truth, each once over all processes.

        Args:
            segment: computes the regions of each image, in the loader's workers.
        """
        return self._eval_loader("target", self.target, with_labels=False, segment=segment)

    def source_dataloader(self, segment: Segmenter | None = None) -> DataLoader[EvalBatch]:
        """All source images, without labels, for strategies that learn from them; see :meth:`pool_dataloader`.

        Raises:
            InvalidArgument: there is no source.
        """
        if self.source is None:
            raise InvalidArgument(OWNER, "source", "is None, but the strategy learns from it; choose another strategy")
        return self._eval_loader("source", self.source, with_labels=False, segment=segment)

    def _resized(self, domain: str, dataset: SegmentationDataset) -> Resized:
        return Resized(dataset, self._sizes[domain], self.cache, self._memory)

    def _queried(self, labels: QueriedLabels) -> Sequence[int]:
        """Indices of the target images with labels."""
        if self.target_labels == "all":
            return range(len(self.target))
        known = set(labels.image_ids)
        return [index for index, image_id in enumerate(self.target.ids) if image_id in known]

    @cached_property
    def _source_pixels(self) -> npt.NDArray[np.int64]:
        assert self.source is not None
        return load_statistics(self.source, self.cache, self.num_workers).pixels

    @cached_property
    def _source_order(self) -> Order:
        assert self.source is not None
        if self.source_sampling == "uniform":
            return UniformOrder(range(len(self.source)), self.seed, "source")
        return BalancedOrder(self._source_pixels, self.seed, "source")

    @cached_property
    def _source_crop(self) -> RandomCrop | None:
        crop = self._crops["source"]
        if crop is None or crop.at == "uniform":
            return crop
        return replace(crop, class_weights=inverse_frequency(self._source_pixels))

    def _train_loader(self, pool: TrainPool, order: Order, stage: Stage) -> DataLoader[Any]:
        resume = self.trainer.global_step if self.trainer else 0  # inside the stage, after a checkpoint within it
        batches = self.trainer.accumulate_grad_batches if self.trainer else 1
        sampler = StepBatchSampler(order, self.batch_size, stage.start, stage.stop, *self._shard(), resume, batches)
        return StepLoader(pool, batch_sampler=sampler, collate_fn=collate_train, **self._loader_options())

    def _eval_loader(
        self, domain: str, dataset: SegmentationDataset, with_labels: bool, segment: Segmenter | None = None
    ) -> DataLoader[EvalBatch]:
        return DataLoader(
            EvalPool(self._resized(domain, dataset), self._eval_transform, with_labels, segment),
            batch_sampler=ShardBatchSampler(len(dataset), self.eval_batch_size, *self._shard()),
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
