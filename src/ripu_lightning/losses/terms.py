"""What a term of a training step is, and the terms of RIPU and of self-training."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ripu_lightning.errors import require_choice, require_number
from ripu_lightning.losses import functional as F

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


def _checked_threshold(owner: str, threshold: float) -> float:
    require_number(owner, "threshold", threshold, above=True, below=1)
    return threshold


def required(outputs: StepOutputs, name: str) -> Tensor:
    """A field of the outputs. Raises ValueError if it is None."""
    value = getattr(outputs, name)
    if not isinstance(value, Tensor):
        raise ValueError(f"StepOutputs.{name}: expected a tensor, got {value}; this loss needs that domain's pass")
    return value
