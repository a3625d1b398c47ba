"""The LightningModule: a network, named loss terms and the published optimiser. It knows nothing of rounds."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from ripu_lightning.data.pools import EvalBatch, TrainBatch
from ripu_lightning.errors import UserError
from ripu_lightning.evaluation import Inference, SegmentationConfusion, figures
from ripu_lightning.losses import StepOutputs, WeightedLosses
from ripu_lightning.networks.batchnorm import set_batchnorm_eval
from ripu_lightning.networks.contract import SegmentationNetwork, SegmentationOutput
from ripu_lightning.networks.resize import resize_logits
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.class_mix import class_mix
from ripu_lightning.training.teacher import Teacher


class SegmentationModule(LightningModule):
    """Trains a segmentation network on source and target batches and evaluates it on the target.

    Where a loss term needs a teacher, ``teacher`` holds the moving average of the network's weights; it is saved in
    the checkpoint. What is evaluated and asked is the network itself.

    Args:
        network: meets :class:`SegmentationNetwork`.
        losses: loss terms by name and weight.
        classes: class names; their number is the network's.
        lr: learning rate of the backbone (Xie et al.: 2.5e-4).
        head_factor: the head learns this many times faster (10).
        momentum: of SGD (0.9).
        weight_decay: of SGD (5e-4).
        horizon: steps over which the rate falls to 0; a run may stop earlier (62,500; stopped at 40,000).
        power: of the polynomial decay (0.9).
        freeze_batchnorm: keep BatchNorm's statistics and parameters as loaded, also after ``train()``.
        inference: how validation and test make predictions; one plain pass unless given.
        subsets: further means of the IoU, each over some of the classes, by name.
        config: plain containers that are saved in the checkpoint, so that it can be evaluated on its own.

    Attributes:
        last_confusion: ``(C, C)`` counts of (truth, prediction) of the last evaluation, over all ranks; None before.

    Raises:
        UserError: classes that do not fit the network, or values out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        losses: WeightedLosses,
        classes: Sequence[str],
        lr: float = 2.5e-4,
        head_factor: float = 10.0,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        horizon: int = 62_500,
        power: float = 0.9,
        freeze_batchnorm: bool = False,
        inference: Inference | None = None,
        subsets: Mapping[str, Sequence[str]] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(network, len(classes), lr, horizon)
        # For the checkpoint alone: loggers are given the run's config as it is.
        self.save_hyperparameters({"classes": list(classes), "config": dict(config or {})}, logger=False)
        # Channels last: the layout tensor cores want, and up to 1.7 times faster on CPUs (small networks).
        network.to(memory_format=torch.channels_last)
        if freeze_batchnorm:
            set_batchnorm_eval(network)
        self.network: nn.Module = network
        self.losses, self.classes = losses, list(classes)
        self.lr, self.head_factor, self.momentum, self.weight_decay = lr, head_factor, momentum, weight_decay
        self.horizon, self.power, self.freeze_batchnorm = horizon, power, freeze_batchnorm
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
        """The weighted sum of the loss terms; only the domains that a term needs are passed through the network.

        Args:
            batch: see :class:`~ripu_lightning.data.ActiveDataModule`; the target's part takes the place of a labelled
                one that is not there.
            batch_idx: not used.

        Raises:
            UserError: a term needs a domain that the batch lacks.
        """
        parts = dict(batch)
        if "target" in parts:
            parts.setdefault("labelled", parts["target"])
        self.losses.require(parts)
        if "mixed" in self.losses.domains:
            parts["mixed"] = class_mix(batch["source"], batch["target"], self._mix_seed())
        values = {f"{domain}_labels": part["label"] for domain, part in parts.items()}
        needed = {domain: part for domain, part in parts.items() if domain in self.losses.domains}
        passed = {id(part): part for part in needed.values()}  # one pass where two domains are the same images
        logits = {key: self._resized(self, part) for key, part in passed.items()}
        values |= {f"{domain}_logits": logits[id(part)] for domain, part in needed.items()}
        if self.teacher is not None:
            values["teacher_logits"] = self._resized(self.teacher, batch["target"])
        total, terms = self.losses(StepOutputs(**values))
        self.log("train/loss", total.detach(), prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in terms.items()})
        result: Tensor = total
        return result

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
        """SGD with a faster head and polynomial decay, stepped every step."""
        rates = {"backbone": self.lr, "head": self.lr * self.head_factor}
        groups = [
            {"params": list(self.network.get_submodule(name).parameters()), "lr": rate} for name, rate in rates.items()
        ]
        optimizer = torch.optim.SGD(groups, momentum=self.momentum, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._decay)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _resized(self, network: nn.Module, part: TrainBatch) -> Tensor:
        height, width = part["label"].shape[-2:]
        images = part["image"].contiguous(memory_format=torch.channels_last)
        return resize_logits(network(images).logits, (height, width))

    def _mix_seed(self) -> int:
        # The seed that was last given to torch: the active loop gives one for each step and rank.
        return derive_seed(torch.initial_seed(), "class_mix", self.global_step, self.global_rank)

    def _decay(self, step: int) -> float:
        return float(max(0.0, 1 - step / self.horizon) ** self.power)

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


def _check_arguments(network: nn.Module, classes: int, lr: float, horizon: int) -> None:
    if not isinstance(network, SegmentationNetwork):
        raise UserError(f"network: {type(network).__name__} has no backbone, head and num_classes; see the contract")
    if network.num_classes != classes:
        raise UserError(f"network.num_classes: {network.num_classes}, but the data have {classes} classes")
    if not isinstance(lr, (int, float)) or not lr > 0:
        raise UserError(f"optimizer.lr: expected a number above 0, got {lr}")
    if horizon < 1:
        raise UserError(f"optimizer.horizon: expected 1 or more, got {horizon}")
