"""What a term of a training step is, and the terms of RIPU and of self-training."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ripu_lightning.errors import require_choice, require_integer, require_number
from ripu_lightning.losses import functional as F
from ripu_lightning.losses.functional.inputs import promote

Domain = Literal["source", "target", "labelled", "mixed"]


@dataclass(frozen=True)
class StepOutputs:
    """The outputs of one training step; a domain that no loss term needs is None.

    Attributes:
        source_logits: ``(B, C, H, W)`` at label resolution.
        source_labels: ``(B, H, W)``, 255 ignored.
        target_logits: ``(B, C, H, W)`` at label resolution.
        target_labels: ``(B, H, W)``, 255 where a pixel has no label.
        labelled_logits: ``(B, C, H, W)`` on target images with queried pixels; if all or none have some, the
            target's own.
        labelled_labels: ``(B, H, W)``, likewise.
        teacher_logits: ``(B, C, H, W)`` of the teacher on the target images, without gradient.
        mixed_logits: ``(B, C, H, W)`` on target images into which parts of source images are pasted.
        mixed_labels: ``(B, H, W)``, the source's labels where pasted, else the target's.
    """

    source_logits: Tensor | None = None
    source_labels: Tensor | None = None
    target_logits: Tensor | None = None
    target_labels: Tensor | None = None
    labelled_logits: Tensor | None = None
    labelled_labels: Tensor | None = None
    teacher_logits: Tensor | None = None
    mixed_logits: Tensor | None = None
    mixed_labels: Tensor | None = None


class LossTerm(nn.Module):
    """A scalar computed from :class:`StepOutputs`.

    Attributes:
        domain: whose forward pass it needs: ``"labelled"`` to learn from target labels, ``"target"`` to use none.
        needs_teacher: whether it also needs the teacher's predictions on the target.
    """

    domain: Domain
    needs_teacher: ClassVar[bool] = False

    def require_classes(self, count: int) -> None:
        """Refuse to train with so many classes, by an :class:`InvalidArgument`; without changes any number will do."""

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(outputs)")


class LocalConsistency(LossTerm):
    """:func:`~ripu_lightning.losses.functional.local_consistency` on the source domain."""

    domain = "source"

    def __init__(self, norm: F.Norm = "l1", boundary: F.Boundary = "clean") -> None:
        super().__init__()
        require_choice("LocalConsistency", "norm", norm, get_args(F.Norm))
        require_choice("LocalConsistency", "boundary", boundary, get_args(F.Boundary))
        self.norm, self.boundary = norm, boundary

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        logits, labels = required(outputs, "source_logits"), required(outputs, "source_labels")
        return F.local_consistency(logits, labels, self.norm, self.boundary)


class NegativeLearning(LossTerm):
    """:func:`~ripu_lightning.losses.functional.negative_learning` on the target domain."""

    domain = "target"

    def __init__(self, threshold: float = 0.05) -> None:
        super().__init__()
        self.threshold = _checked_threshold("NegativeLearning", threshold)

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return F.negative_learning(required(outputs, "target_logits"), self.threshold)


class TeacherTerm(LossTerm):
    """Base class of the terms that learn from a teacher's confident predictions.

    Args:
        threshold: see :func:`~ripu_lightning.losses.functional.pseudo_labels`.
    """

    needs_teacher = True

    def __init__(self, threshold: float = 0.968) -> None:
        super().__init__()
        self.threshold = _checked_threshold(type(self).__name__, threshold)

    def pseudo_labels(self, outputs: StepOutputs) -> Tensor:
        """The teacher's labels ``(B, H, W)`` of the target images, 255 where it is not confident."""
        return F.pseudo_labels(required(outputs, "teacher_logits"), self.threshold)


class PseudoLabels(TeacherTerm):
    """Cross-entropy with the teacher's confident predictions on target pixels that have no label.

    The sum over confident pixels is divided by the number of all pixels without a label, as in FixMatch (Sohn et al.,
    NeurIPS 2020): while the teacher is confident about few pixels, the term is small.
    """

    domain = "target"

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        unlabelled = required(outputs, "target_labels") == F.IGNORE
        labels = self.pseudo_labels(outputs).masked_fill(~unlabelled, F.IGNORE)
        return F.cross_entropy(required(outputs, "target_logits"), labels, over=unlabelled)


class ClassMix(TeacherTerm):
    """Cross-entropy on target images into which half of a source image's classes are pasted.

    ClassMix (Olsson et al., WACV 2021) across domains (DACS, Tranheden et al., WACV 2021). Pixels without a label take
    the teacher's prediction where it is confident. The mean is over all pixels, so that the share of confident pixels
    weights the teacher's part.
    """

    domain = "mixed"

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        known = required(outputs, "mixed_labels").long()
        labels = known.where(known != F.IGNORE, self.pseudo_labels(outputs))
        everywhere = torch.ones_like(labels, dtype=torch.bool)
        return F.cross_entropy(required(outputs, "mixed_logits"), labels, over=everywhere)


class AdaptivePseudoLabels(LossTerm):
    """Cross-entropy with the teacher's predictions on unlabelled target pixels, each weighted by its confidence.

    A prediction counts where its probability is above the threshold of its class
    (:func:`~ripu_lightning.losses.functional.adapted_thresholds`), or where queried labels confirm its segment, and
    not where they contradict it (:func:`~ripu_lightning.losses.functional.segment_evidence`). The sum is divided by
    the number of all unlabelled pixels. The weight rises from the first step with labels on.

    Args:
        momentum: share of the thresholds' statistics that is kept at each step (FreeMatch: 0.999; lower for short
            runs), from 0 to below 1.
        confirm: let queried labels confirm and contradict segments.
        ramp_steps: training batches, counted from the first one with labels, until the weight is 1; 1 or more.

    Raises:
        InvalidArgument: an argument out of range.
    """

    domain = "target"
    needs_teacher = True
    level: Tensor
    shares: Tensor
    steps: Tensor

    def __init__(self, momentum: float = 0.99, confirm: bool = True, ramp_steps: int = 1000) -> None:
        super().__init__()
        require_number("AdaptivePseudoLabels", "momentum", momentum, below=1)
        require_choice("AdaptivePseudoLabels", "confirm", confirm, (True, False))
        require_integer("AdaptivePseudoLabels", "ramp_steps", ramp_steps, least=1)
        self.momentum, self.confirm, self.ramp_steps = momentum, confirm, ramp_steps
        # Under DDP the buffers are those of rank 0's batches. The classes are known at the first step.
        self.register_buffer("level", torch.zeros(()))
        self.register_buffer("shares", torch.zeros(F.IGNORE))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        known = required(outputs, "target_labels")
        probabilities = promote(required(outputs, "teacher_logits").detach()).softmax(dim=1)
        confidence, classes = probabilities.max(dim=1)
        if self.training:
            self._update(probabilities, confidence, bool((known != F.IGNORE).any()))
        counts = confidence > F.adapted_thresholds(self.level, self.shares[: probabilities.shape[1]])[classes]
        if self.confirm:
            confirmed, contradicted = F.segment_evidence(classes, known)
            counts = (counts | confirmed) & ~contradicted
        unlabelled = known == F.IGNORE
        labels = classes.masked_fill(~(counts & unlabelled), F.IGNORE)
        logits = promote(required(outputs, "target_logits"))
        each = nn.functional.cross_entropy(logits, labels, ignore_index=F.IGNORE, reduction="none")
        ramp = (self.steps / self.ramp_steps).clamp(max=1)
        return ramp * (confidence * each).sum() / unlabelled.sum().clamp(min=1)

    def _update(self, probabilities: Tensor, confidence: Tensor, labelled: bool) -> None:
        """The thresholds' statistics begin with the values of chance, 1 / C."""
        classes = probabilities.shape[1]
        if not self.level:
            self.level.fill_(1 / classes)
            self.shares[:classes] = 1 / classes
        self.level.lerp_(confidence.mean().float(), 1 - self.momentum)
        self.shares[:classes].lerp_(probabilities.mean(dim=(0, 2, 3)).float(), 1 - self.momentum)
        self.steps += int(labelled or self.steps > 0)


def _checked_threshold(owner: str, threshold: float) -> float:
    require_number(owner, "threshold", threshold, above=True, below=1)
    return threshold


def required(outputs: StepOutputs, name: str) -> Tensor:
    """A field of the outputs. Raises ValueError if it is None."""
    value = getattr(outputs, name)
    if not isinstance(value, Tensor):
        raise ValueError(f"StepOutputs.{name}: expected a tensor, got {value}; this loss needs that domain's pass")
    return value
