"""What the active-learning loop needs of a datamodule; any LightningDataModule with these four members will do."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.pools import EvalBatch
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore, Stage
from ripu_lightning.labels.maintenance import extend_images
from ripu_lightning.labels.manifest import NAME as MANIFEST

MEMBERS = ("class_names", "image_sizes", "pool_dataloader", "begin_stage")


@runtime_checkable
class ActivePool(Protocol):
    """A datamodule whose target images can be queried; :class:`~ripu_lightning.data.ActiveDataModule` is one.

    It may have ``source_dataloader`` (for strategies that learn from the source), ``hide_truth``, which makes the
    pool's labels unreadable and is called where the annotator does not read them, and ``classes``, the
    :class:`~ripu_lightning.class_map.ClassMap` that the label store then carries.

    Attributes:
        class_names: class names by index.
        image_sizes: ``(H, W)`` of the label of each image of the pool by its id, in the order of the pool. It is the
            image's own resolution, not that of the network's input. The ids are strings; the label store and the
            annotator refer to images by them.
    """

    @property
    def class_names(self) -> Sequence[str]:
        """See above."""

    @property
    def image_sizes(self) -> Mapping[str, tuple[int, int]]:
        """See above."""

    def pool_dataloader(self) -> Iterable[Any]:
        """Batches of the pool without augmentation, each image once over all ranks.

        A batch is an :class:`~ripu_lightning.data.EvalBatch`, or a mapping with ``image`` (B, 3, h, w), the network's
        input, and ``id``, the ids of its B images. Superpixels also need ``regions``: (H, W) int64 for each image; then
        the method is called with ``segment``, a function that computes them from an RGB image and its id.
        """

    def begin_stage(self, stage: Stage) -> None:
        """Take the stage that is about to be trained; ``train_dataloader`` is called after it.

        ``stage.labels.mask(image_id)`` is the mask of an image: 255 wherever it has no label. The loader must hold at
        least ``stage.stop - stage.start`` batches. A run resumes to the same result if the loader begins with the batch
        of step ``trainer.global_step``, which may lie inside the stage.
        """


def active_pool(trainer: Trainer) -> ActivePool:
    """The datamodule of a trainer.

    Raises:
        UserError: there is none, or it lacks a member of :class:`ActivePool`.
    """
    datamodule = getattr(trainer, "datamodule", None)
    missing = [name for name in MEMBERS if not hasattr(datamodule, name)]
    if datamodule is None or missing:
        given = "no datamodule was given" if datamodule is None else f"{type(datamodule).__name__} lacks {missing[0]}"
        raise UserError(
            f"ActiveLearningLoop: {given}; call trainer.fit(module, datamodule=...) with an ActiveDataModule or "
            f"with one that has {', '.join(MEMBERS)}"
        )
    pool: ActivePool = datamodule
    names, sizes = pool.class_names, pool.image_sizes
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise UserError(f"{type(pool).__name__}.class_names: must be a list of names by index, got {names!r}")
    if not isinstance(sizes, Mapping) or not sizes or not all(isinstance(image_id, str) for image_id in sizes):
        raise UserError(f"{type(pool).__name__}.image_sizes: must map each image's id, a string, to its (H, W)")
    return pool


def classes_of(pool: ActivePool) -> ClassMap | Sequence[str]:
    """The pool's class map where it has one, else the names of its classes."""
    classes = getattr(pool, "classes", None)
    return classes if isinstance(classes, ClassMap) else pool.class_names


def extend_store(folder: Path, pool: ActivePool, rounds: int) -> None:
    """Take the pool's new images into its label store, where there is one; a line says which they are.

    Args:
        folder: of the store.
        pool: the datamodule of the run.
        rounds: number of rounds of the run.

    Raises:
        UserError: an image of the store is missing or has changed, or the store cannot be written.
    """
    if not (folder / MANIFEST).is_file():
        return
    new = extend_images(folder, classes_of(pool), pool.image_sizes)
    if new:
        manifest = LabelStore.open(folder).manifest
        begun = len(manifest.rounds) + (folder / manifest.pending_file()).is_file()
        print(
            f"extend_pool: {len(new)} new images (the first is {new[0]}) join the pool after round {begun} of "
            f"{rounds}; queries that are selected already stay as they are",
            flush=True,
        )


def as_eval_batch(batch: Any, image_sizes: Mapping[str, tuple[int, int]]) -> EvalBatch:
    """A batch of a pool's loader as an :class:`EvalBatch`; see :meth:`ActivePool.pool_dataloader`.

    Raises:
        UserError: neither of the two kinds of batch, or an id that is not of the pool.
    """
    if isinstance(batch, EvalBatch):
        return batch
    if not isinstance(batch, Mapping) or not {"image", "id"} <= batch.keys():
        raise UserError(
            f"pool_dataloader: expected batches with the keys image and id, got {type(batch).__name__}"
            + (f" with {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else "")
        )
    image, ids = batch["image"], list(batch["id"])
    if not isinstance(image, Tensor) or image.ndim != 4 or len(image) != len(ids):
        raise UserError(
            f"pool_dataloader: expected image (B, 3, h, w) and B ids, got {_shape(image)} and {len(ids)} ids"
        )
    unknown = [image_id for image_id in ids if image_id not in image_sizes]
    if unknown:
        raise UserError(f"pool_dataloader: {unknown[0]!r} is no id of image_sizes; give both the same ids")
    positions = {image_id: index for index, image_id in enumerate(image_sizes)}
    sizes = [image_sizes[image_id] for image_id in ids]
    regions = [torch.as_tensor(each) for each in batch.get("regions", ())]
    return EvalBatch(image, [positions[image_id] for image_id in ids], ids, sizes, [], regions)


def require_each_once(seen: Iterable[Sequence[int]], image_sizes: Mapping[str, tuple[int, int]]) -> None:
    """Refuse a loader that left out an image of the pool, or gave one to two ranks.

    Args:
        seen: positions of the scored images, rank by rank.
        image_sizes: of the pool.

    Raises:
        UserError: naming the first such image.
    """
    counts = [0] * len(image_sizes)
    for positions in seen:
        for position in positions:
            counts[position] += 1
    for image_id, count in zip(image_sizes, counts, strict=True):
        if count != 1:
            raise UserError(
                f"pool_dataloader: gave image {image_id!r} {count} times, expected once, over all ranks together: give "
                "each id of image_sizes, and shard by rank without padding (ripu_lightning.data.samplers)"
            )


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
