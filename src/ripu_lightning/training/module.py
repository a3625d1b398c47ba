"""The LightningModule: a network, named loss terms and an optimizer. It knows nothing of rounds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.pools import EvalBatch, TrainBatch
from ripu_lightning.errors import InvalidArgument, UserError, require_choice, require_number
from ripu_lightning.evaluation import Inference, SegmentationConfusion, figures, metric_names
from ripu_lightning.losses import StepOutputs, WeightedLosses
from ripu_lightning.networks.batchnorm import set_batchnorm_eval
from ripu_lightning.networks.contract import SegmentationNetwork, SegmentationOutput
from ripu_lightning.networks.resize import resize_logits
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.active_pool import active_pool
from ripu_lightning.training.class_mix import class_mix
from ripu_lightning.training.moving_average import MovingAverage
from ripu_lightning.training.optimization import (
    OptimizerFactory,
    SchedulerFactory,
    build_optimizer,
    polynomial_decay,
    published_sgd,
)
from ripu_lightning.training.target_statistics import TargetStatistics, target_batches

OWNER = "SegmentationModule"
BatchNormMode = Literal["separate", "joint", "frozen", "target"]
ONE_SIZE = "set source_size and target_size to the same, or batchnorm to separate"


class SegmentationModule(LightningModule):
    """Trains a segmentation network on source and target batches and evaluates it on the target.

    Training passes images through ``network``. Evaluation and acquisition call :meth:`forward` in eval mode, which uses
    the moving average of its weights and the BatchNorm statistics of the target, where they are wanted
    (``average_decay``, ``batchnorm``). Both are saved in the checkpoint, as is the teacher of self-training.
    Dropout and class-mix draw from random streams of their own, a function of (seed, step, rank): the global random
    state is left as it was.

    Args:
        network: meets :class:`SegmentationNetwork`.
        losses: loss terms by name and weight.
        classes: the class map, or class names; their number is the network's. Checkpoints hold the map. Evaluation
            reports further means over its subsets.
        optimizer: called with two parameter groups, of the network's backbone and head; None is SGD as published
            (learning rate 2.5e-4, momentum 0.9, weight decay 5e-4).
        lr_scheduler: called with the optimizer and stepped after every step; None is :func:`polynomial_decay` as
            published (62,500 steps, power 0.9).
        head_factor: the head's learning rate is this many times the backbone's, above 0 (published: 10).
        norm_decay: whether weight decay also holds for norms and biases (parameters of one dimension).
        layer_decay: the learning rate of each layer of the backbone is this many times that of the next one, above 0
            and up to 1; see :func:`~ripu_lightning.training.optimization.build_optimizer`.
        batchnorm: what BatchNorm normalises with. ``separate``: each part of a batch (source, labelled, target, mixed)
            passes alone, with its own statistics. ``joint``: all parts pass together, with common statistics; their
            images must be of one size. ``frozen``: statistics and parameters stay as loaded, also after ``train()``.
            ``target``: as ``separate``, but evaluation and acquisition use statistics that are estimated on target
            images before them, see :class:`~ripu_lightning.training.target_statistics.TargetStatistics`.
        average_decay: evaluation and acquisition use a moving average of the weights, which keeps this share of itself
            at each step, from 0 to below 1, and less in the first steps; None uses the network itself. If a loss term
            needs a teacher of the same decay, they are one.
        inference: how validation and test make predictions; None is one plain pass.
        config: plain containers that are saved in the checkpoint, so that it can be evaluated on its own.
        seed: seed of dropout and class-mix.

    Attributes:
        last_figures: the :func:`~ripu_lightning.evaluation.figures` of the last evaluation that counted anything; empty
            before.
        last_confusion: ``(C, C)`` counts of (truth, prediction) of the last evaluation, over all ranks; None before.
        class_map: see ``classes``, which as an attribute are the names.
        teacher: of self-training; None where no term needs it.
        average: see ``average_decay``.

    Raises:
        InvalidArgument: a network that does not meet the contract or has another number of classes, or a value out of
            range.
    """

    def __init__(
        self,
        network: nn.Module,
        losses: WeightedLosses,
        classes: ClassMap | Mapping[str, Any] | Sequence[str],
        *,
        optimizer: OptimizerFactory | None = None,
        lr_scheduler: SchedulerFactory | None = None,
        head_factor: float = 10.0,
        norm_decay: bool = True,
        layer_decay: float = 1.0,
        batchnorm: BatchNormMode = "separate",
        average_decay: float | None = None,
        inference: Inference | None = None,
        config: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.class_map = ClassMap.of(classes)
        count = len(self.class_map)
        _check_network(network, count)
        losses.require_classes(count)
        require_number(OWNER, "head_factor", head_factor, above=True)
        require_choice(OWNER, "norm_decay", norm_decay, (True, False))
        require_number(OWNER, "layer_decay", layer_decay, above=True, most=1)
        require_choice(OWNER, "batchnorm", batchnorm, get_args(BatchNormMode))
        if average_decay is not None:
            require_number(OWNER, "average_decay", average_decay, below=1)
        # For the checkpoint alone: loggers get the config from the run.
        self.save_hyperparameters({"classes": self.class_map.as_dict(), "config": dict(config or {})}, logger=False)
        # Channels last: the layout tensor cores want, and up to 1.7 times faster on CPUs (small networks).
        network.to(memory_format=torch.channels_last)
        if batchnorm == "frozen":
            set_batchnorm_eval(network)
        self.network: nn.Module = network
        self.losses, self.classes, self.seed = losses, list(self.class_map.names), seed
        self.optimizer_factory = optimizer or published_sgd
        self.scheduler_factory = lr_scheduler or polynomial_decay
        self.head_factor, self.norm_decay, self.layer_decay = head_factor, norm_decay, layer_decay
        self.batchnorm = batchnorm
        self.inference = inference or Inference()
        self.confusion = SegmentationConfusion(count)
        self.last_confusion: Tensor | None = None
        self.last_figures: dict[str, float] = {}
        self._batch = 0  # of those whose gradients a step adds up
        teaches = losses.teacher_decay if losses.needs_teacher else None
        self.average = None if average_decay is None else MovingAverage(network, average_decay, ramp=True)
        shared = self.average if teaches == average_decay else None
        self.teacher = shared if teaches is None or shared is not None else MovingAverage(network, teaches)
        self.target_statistics = TargetStatistics(network) if batchnorm == "target" else None

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` normalised images -> logits ``(B, C, h, w)`` at the network's stride, and features."""
        images = images.contiguous(memory_format=torch.channels_last)
        network: nn.Module = self.network if self.training else self._evaluated
        if self.training or self.target_statistics is None:
            output: SegmentationOutput = network(images)
            return output
        output = self.target_statistics(network, images)
        return output

    @property
    def _evaluated(self) -> nn.Module:
        """The network that evaluation and acquisition use."""
        return self.average.module if self.average is not None and self.average.begun else self.network

    def train(self, mode: bool = True) -> "SegmentationModule":
        """As ``nn.Module.train``; frozen BatchNorm stays in eval."""
        super().train(mode)
        if self.batchnorm == "frozen":
            set_batchnorm_eval(self.network)
        return self

    def on_train_start(self) -> None:
        """The first averages are the network, with whatever weights were loaded by now."""
        for average in self.averages:
            average.begin(self.network)
        if self.target_statistics is not None:
            next(target_batches(active_pool(self.trainer), self.seed))  # refuses a pool without single images

    @property
    def averages(self) -> list[MovingAverage]:
        """``teacher`` and ``average``, those that there are; one where they are the same."""
        return list(dict.fromkeys(each for each in (self.teacher, self.average) if each is not None))

    def prepare_evaluation(self) -> None:
        """Estimate BatchNorm's statistics on target images, if ``batchnorm`` is ``target``, once for the same weights.

        Validation and :class:`~ripu_lightning.training.ActiveLearningLoop` call it on every rank, whichever is first.
        """
        statistics = self.target_statistics
        if statistics is None or statistics.current:
            return
        batches = target_batches(active_pool(self.trainer), self.seed)
        precision = self.trainer.precision_plugin
        with torch.no_grad(), precision.forward_context():
            inputs = (precision.convert_input(images.to(self.device)) for images in batches)
            statistics.estimate(self._evaluated, inputs)

    def on_validation_epoch_start(self) -> None:
        """See :meth:`prepare_evaluation`."""
        self.prepare_evaluation()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Note which of the batches of a step this is: each draws numbers of its own."""
        self._batch = batch_idx % self.trainer.accumulate_grad_batches

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
        needed = {str(domain): part for domain, part in parts.items() if domain in self.losses.domains}
        logits = self._logits(needed)
        values |= {f"{domain}_logits": logits[id(part)] for domain, part in needed.items()}
        if self.teacher is not None:
            target = batch["target"]
            values["teacher_logits"] = _at_label(self.teacher(_images(target, "weak")).logits, target)
        total, terms = self.losses(StepOutputs(**values))
        return total, terms

    def _logits(self, parts: Mapping[str, TrainBatch]) -> dict[int, Tensor]:
        """The logits of each part, at its label's size, by the part's id; the same images pass once."""
        passed = {id(part): part for part in parts.values()}
        if self.batchnorm != "joint":
            return {key: _at_label(self.network(_images(part)).logits, part) for key, part in passed.items()}
        sizes = {name: f"{part['image'].shape[-2]}x{part['image'].shape[-1]}" for name, part in parts.items()}
        if len(set(sizes.values())) > 1:
            found = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise UserError(f"batchnorm: joint needs images of one size, got {found} (height x width); {ONE_SIZE}")
        counts = [len(part["image"]) for part in passed.values()]
        joint = {"image": torch.cat([part["image"] for part in passed.values()])}
        logits = self.network(_images(joint)).logits.split(counts)
        return {key: _at_label(own, part) for own, (key, part) in zip(logits, passed.items(), strict=True)}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """As Lightning's; then the averages follow."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        # Not in on_train_batch_end: callbacks come first there, and a checkpoint would hold an older average.
        for average in self.averages:
            average.update_parameters(self.network)
        if self.target_statistics is not None:
            self.target_statistics.current = False

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
        optimizer = build_optimizer(
            self.optimizer_factory, self.network, self.head_factor, self.norm_decay, self.layer_decay
        )
        scheduler = self.scheduler_factory(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _step_seed(self, purpose: str) -> int:
        return derive_seed(self.seed, purpose, self.global_step, self.global_rank, *([self._batch] * bool(self._batch)))

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
        self.last_confusion, subsets = confusion.cpu(), self.class_map.subsets
        found = figures(confusion, self.classes, subsets)
        self.last_figures = {name: torch.tensor(value).item() for name, value in found.items()}  # in 32 bits, as logged
        shown = {f"iou/{name}": f"iou/{short}" for name, short in metric_names(self.classes).items()}
        shown |= {f"miou_{name}": f"miou_{short}" for name, short in metric_names(list(subsets)).items()}
        values = {f"{stage}/{shown.get(name, name)}": value for name, value in found.items()}
        # The counts are those of all ranks already, so the ranks agree; a mean over them would round.
        self.log(f"{stage}/miou", values.pop(f"{stage}/miou"), prog_bar=True, sync_dist=True, reduce_fx="max")
        self.log_dict(values, sync_dist=True, reduce_fx="max")


def _images(part: Mapping[str, Any], view: str = "image") -> Tensor:
    images: Tensor = part.get(view, part["image"]).contiguous(memory_format=torch.channels_last)
    return images


def _at_label(logits: Tensor, part: TrainBatch) -> Tensor:
    height, width = part["label"].shape[-2:]
    return resize_logits(logits, (height, width))


def _check_network(network: nn.Module, classes: int) -> None:
    if not isinstance(network, SegmentationNetwork):
        problem = f"must have backbone, head and num_classes (SegmentationNetwork), got {type(network).__name__}"
        raise InvalidArgument(OWNER, "network", problem)
    if network.num_classes != classes:
        problem = f"must have as many classes as the data, {classes}, got {network.num_classes}"
        raise InvalidArgument(OWNER, "network", problem)
