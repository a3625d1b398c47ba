"""The LightningModule: a network, named loss terms and an optimizer. It knows nothing of rounds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from ripu_lightning.data.pools import EvalBatch, TrainBatch
from ripu_lightning.errors import InvalidArgument, require_number
from ripu_lightning.evaluation import Inference, SegmentationConfusion, figures
from ripu_lightning.losses import StepOutputs, WeightedLosses
from ripu_lightning.networks.batchnorm import set_batchnorm_eval
from ripu_lightning.networks.contract import SegmentationNetwork, SegmentationOutput
from ripu_lightning.networks.resize import resize_logits
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.class_mix import class_mix
from ripu_lightning.training.optimization import (
    OptimizerFactory,
    SchedulerFactory,
    polynomial_decay,
    published_sgd,
)
from ripu_lightning.training.teacher import Teacher


class SegmentationModule(LightningModule):
    """Trains a segmentation network on source and target batches and evaluates it on the target.

    If a loss term needs a teacher, ``teacher`` holds the moving average of the network's weights, which is saved in the
    checkpoint. Evaluation and acquisition use the network itself. Dropout and class-mix draw from random streams of
    their own, a function of (seed, step, rank): the global random state is left as it was.

    Args:
        network: meets :class:`SegmentationNetwork`.
        losses: loss terms by name and weight.
        classes: class names; their number is the network's.
        optimizer: called with two parameter groups, of the network's backbone and head; None is SGD as published
            (learning rate 2.5e-4, momentum 0.9, weight decay 5e-4).
        lr_scheduler: called with the optimizer and stepped after every step; None is :func:`polynomial_decay` as
            published (62,500 steps, power 0.9).
        head_factor: the head's learning rate is this many times the backbone's, above 0 (published: 10).
        freeze_batchnorm: keep BatchNorm's statistics and parameters as loaded, also after ``train()``.
        inference: how validation and test make predictions; None is one plain pass.
        subsets: further means of the IoU, each over some of the classes, by name.
        config: plain containers that are saved in the checkpoint, so that it can be evaluated on its own.
        seed: seed of dropout and class-mix.

    Attributes:
        last_confusion: ``(C, C)`` counts of (truth, prediction) of the last evaluation, over all ranks; None before.

    Raises:
        InvalidArgument: a network that does not meet the contract or has another number of classes, or a
            ``head_factor`` out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        losses: WeightedLosses,
        classes: Sequence[str],
        *,
        optimizer: OptimizerFactory | None = None,
        lr_scheduler: SchedulerFactory | None = None,
        head_factor: float = 10.0,
        freeze_batchnorm: bool = False,
        inference: Inference | None = None,
        subsets: Mapping[str, Sequence[str]] | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _check_network(network, len(classes))
        require_number("SegmentationModule", "head_factor", head_factor, above=True)
        # For the checkpoint alone: loggers get the config from the run.
        self.save_hyperparameters({"classes": list(classes), "config": dict(config or {})}, logger=False)
        # Channels last: the layout tensor cores want, and up to 1.7 times faster on CPUs (small networks).
        network.to(memory_format=torch.channels_last)
        if freeze_batchnorm:
            set_batchnorm_eval(network)
        self.network: nn.Module = network
        self.losses, self.classes, self.seed = losses, list(classes), seed
        self.optimizer_factory = optimizer or published_sgd
        self.scheduler_factory = lr_scheduler or polynomial_decay
        self.head_factor, self.freeze_batchnorm = head_factor, freeze_batchnorm
        self.inference, self.subsets = inference or Inference(), dict(subsets or {})
        self.confusion = SegmentationConfusion(len(classes))
        self.last_confusion: Tensor | None = None
        self.teacher = Teacher(network, losses.teacher_decay) if losses.needs_teacher else None

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` normalised images -> logits ``(B, C, h, w)`` at the network's stride, and features."""
        output: SegmentationOutput = self.network(images.contiguous(memory_format=torch.channels_last))
        return output

    def train(self, mode: bool = True) -> "SegmentationModule":
        """As ``nn.Module.train``; frozen BatchNorm stays in eval."""
        super().train(mode)
        if self.freeze_batchnorm:
            set_batchnorm_eval(self.network)
        return self

    def on_train_start(self) -> None:
        """The first teacher is the student, with whatever weights were loaded by now."""
        if self.teacher is not None:
            self.teacher.begin(self.network)

    def training_step(self, batch: Mapping[str, TrainBatch], batch_idx: int) -> Tensor:
        """The weighted sum of the loss terms; only the parts that a term needs are passed through the network.

        Args:
            batch: ``source``, ``labelled`` and ``target`` parts, see :class:`~ripu_lightning.data.ActiveDataModule`.
            batch_idx: not used.

        Raises:
            UserError: a term needs a part that the batch lacks.
        """
        with self._random_stream("dropout"):
            total, terms = self._losses(batch)
        self.log("train/loss", total.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        return total

    def _losses(self, batch: Mapping[str, TrainBatch]) -> tuple[Tensor, dict[str, Tensor]]:
        parts = dict(batch)
        self.losses.require(parts)
        if "mixed" in self.losses.domains:
            parts["mixed"] = class_mix(batch["source"], batch["target"], self._step_seed("class_mix"))
        values = {f"{domain}_labels": part["label"] for domain, part in parts.items()}
        needed = {domain: part for domain, part in parts.items() if domain in self.losses.domains}
        passed = {id(part): part for part in needed.values()}  # one pass where two parts are the same images
        logits = {key: self._resized(self, part) for key, part in passed.items()}
        values |= {f"{domain}_logits": logits[id(part)] for domain, part in needed.items()}
        if self.teacher is not None:
            values["teacher_logits"] = self._resized(self.teacher, batch["target"])
        total, terms = self.losses(StepOutputs(**values))
        return total, terms

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """As Lightning's; then the teacher follows."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # Not in on_train_batch_end: callbacks come first there, and a checkpoint would hold an older teacher.
        if self.teacher is not None:
            self.teacher.update_parameters(self.network)

    def validation_step(self, batch: EvalBatch, batch_idx: int) -> None:
        """Count predictions at each label's own resolution; without labels there is nothing to count."""
        self._count(batch)

    def test_step(self, batch: EvalBatch, batch_idx: int) -> dict[str, list[Tensor]]:
        """As :meth:`validation_step`; returns the ``predictions``, ``(H, W)`` each."""
        return {"predictions": self._count(batch)}

    def on_validation_epoch_end(self) -> None:
        """Log the :func:`~ripu_lightning.evaluation.figures` over the whole set and all ranks."""
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        """As :meth:`on_validation_epoch_end`."""
        self._log_figures("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer of backbone and head, and its scheduler, stepped after every step."""
        groups = [
            {"params": list(self.network.get_submodule(name).parameters()), "name": name}
            for name in ("backbone", "head")
        ]
        optimizer = self.optimizer_factory(groups)
        for group in optimizer.param_groups:
            if group.get("name") == "head":
                group["lr"] *= self.head_factor
        scheduler = self.scheduler_factory(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _resized(self, network: nn.Module, part: TrainBatch) -> Tensor:
        height, width = part["label"].shape[-2:]
        images = part["image"].contiguous(memory_format=torch.channels_last)
        return resize_logits(network(images).logits, (height, width))

    def _step_seed(self, purpose: str) -> int:
        return derive_seed(self.seed, purpose, self.global_step, self.global_rank)

    @contextmanager
    def _random_stream(self, purpose: str) -> Iterator[None]:
        """Draw from a stream of this step and rank, so that a resumed run draws the same."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self._step_seed(purpose))
            yield

    def _count(self, batch: EvalBatch) -> list[Tensor]:
        predictions = list(self.inference.predict(self, batch.image, batch.sizes))
        if batch.labels:
            for predicted, label in zip(predictions, batch.labels, strict=True):
                self.confusion.add(predicted, label)
        return predictions

    def _log_figures(self, stage: str) -> None:
        # A rank may have no image of its own, but all of them must take part in summing up.
        if not self.trainer.strategy.reduce_boolean_decision(self.confusion.update_called, all=False):
            return
        if not self.confusion.update_called:  # torchmetrics would warn of a rank that counted nothing
            nothing = torch.empty(0, dtype=torch.int64, device=self.device)
            self.confusion.update(nothing, nothing)
        confusion = self.confusion.compute()
        self.confusion.reset()
        self.last_confusion = confusion.cpu()
        values = {f"{stage}/{name}": value for name, value in figures(confusion, self.classes, self.subsets).items()}
        # The counts are those of all ranks already, so the ranks agree; a mean over them would round.
        self.log(f"{stage}/miou", values.pop(f"{stage}/miou"), prog_bar=True, sync_dist=True, reduce_fx="max")
        self.log_dict(values, sync_dist=True, reduce_fx="max")


def _check_network(network: nn.Module, classes: int) -> None:
    if not isinstance(network, SegmentationNetwork):
        problem = f"must have backbone, head and num_classes (SegmentationNetwork), got {type(network).__name__}"
        raise InvalidArgument("SegmentationModule", "network", problem)
    if network.num_classes != classes:
        problem = f"must have as many classes as the data, {classes}, got {network.num_classes}"
        raise InvalidArgument("SegmentationModule", "network", problem)
