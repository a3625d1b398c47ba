"""The losses as terms of a training step."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from ripu_lightning.errors import UserError, suggest
from ripu_lightning.losses import functional as F

Domain = Literal["source", "target", "labelled", "mixed"]


@dataclass(frozen=True)
class StepOutputs:
    """What one training step offers to its losses; a domain that was not asked for is None.

    Attributes:
        source_logits: ``(B, C, H, W)`` at label resolution.
        source_labels: ``(B, H, W)``, 255 ignored.
        target_logits: ``(B, C, H, W)`` at label resolution.
        target_labels: ``(B, H, W)``, the bought labels, 255 where there is none.
        labelled_logits: ``(B, C, H, W)`` on target images that were asked about, however few; where all or none were,
            the target's own.
        labelled_labels: ``(B, H, W)``, likewise.
        teacher_logits: ``(B, C, H, W)``, the teacher's on the target images, without gradient.
        mixed_logits: ``(B, C, H, W)`` on target images that parts of source images are pasted into.
        mixed_labels: ``(B, H, W)``, the source's labels where pasted, else the bought ones, else 255.
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

    ``domain`` tells whose forward pass it needs: ``"labelled"`` for what learns from bought labels, ``"target"`` for
    what needs none; ``needs_teacher`` whether it needs the teacher's on the target too.
    """

    domain: ClassVar[Domain]
    needs_teacher: ClassVar[bool] = False

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(outputs)")


class SourceCrossEntropy(LossTerm):
    """:func:`~ripu_lightning.losses.functional.cross_entropy` on the source domain."""

    domain = "source"

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return F.cross_entropy(_needed(outputs, "source_logits"), _needed(outputs, "source_labels"))


class TargetCrossEntropy(LossTerm):
    """:func:`~ripu_lightning.losses.functional.cross_entropy` on the bought labels; 0 while there are none."""

    domain = "labelled"

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return F.cross_entropy(_needed(outputs, "labelled_logits"), _needed(outputs, "labelled_labels"))


class LocalConsistency(LossTerm):
    """:func:`~ripu_lightning.losses.functional.local_consistency` on the source domain."""

    domain = "source"

    def __init__(self, norm: F.Norm = "l1", boundary: F.Boundary = "clean") -> None:
        super().__init__()
        _check_choice("loss.terms.local_consistency.norm", norm, get_args(F.Norm))
        _check_choice("loss.terms.local_consistency.boundary", boundary, get_args(F.Boundary))
        self.norm = norm
        self.boundary = boundary

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        logits, labels = _needed(outputs, "source_logits"), _needed(outputs, "source_labels")
        return F.local_consistency(logits, labels, self.norm, self.boundary)


class NegativeLearning(LossTerm):
    """:func:`~ripu_lightning.losses.functional.negative_learning` on the target domain."""

    domain = "target"

    def __init__(self, threshold: float = 0.05) -> None:
        super().__init__()
        _check_threshold("negative_learning", threshold)
        self.threshold = threshold

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return F.negative_learning(_needed(outputs, "target_logits"), self.threshold)


class PseudoLabels(LossTerm):
    """Cross-entropy with the teacher's confident predictions on target pixels that have no bought label.

    The sum over confident pixels is divided by the number of all pixels without a label, as in FixMatch (Sohn et al.,
    NeurIPS 2020): while the teacher is sure of little, the term weighs little.

    Args:
        threshold: see :func:`~ripu_lightning.losses.functional.pseudo_labels`.
    """

    domain = "target"
    needs_teacher = True

    def __init__(self, threshold: float = 0.968) -> None:
        super().__init__()
        _check_threshold("pseudo_labels", threshold)
        self.threshold = threshold

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        pseudo = F.pseudo_labels(_needed(outputs, "teacher_logits"), self.threshold)
        unlabelled = _needed(outputs, "target_labels") == F.IGNORE
        labels = pseudo.masked_fill(~unlabelled, F.IGNORE)
        return F.cross_entropy(_needed(outputs, "target_logits"), labels, over=unlabelled)


class ClassMix(LossTerm):
    """Cross-entropy on target images that half of a source image's classes are pasted into.

    ClassMix (Olsson et al., WACV 2021) across domains (DACS, Tranheden et al., WACV 2021). Pixels without a label take
    the teacher's where it is confident. The mean is over all pixels, so that the share of confident ones is the
    weight of what the teacher says.

    Args:
        threshold: see :func:`~ripu_lightning.losses.functional.pseudo_labels`.
    """

    domain = "mixed"
    needs_teacher = True

    def __init__(self, threshold: float = 0.968) -> None:
        super().__init__()
        _check_threshold("class_mix", threshold)
        self.threshold = threshold

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        known = _needed(outputs, "mixed_labels").long()
        pseudo = F.pseudo_labels(_needed(outputs, "teacher_logits"), self.threshold)
        labels = known.where(known != F.IGNORE, pseudo)
        everywhere = torch.ones_like(labels, dtype=torch.bool)
        return F.cross_entropy(_needed(outputs, "mixed_logits"), labels, over=everywhere)


def _check_threshold(name: str, threshold: float) -> None:
    if not (isinstance(threshold, (int, float)) and 0 < threshold < 1):
        raise UserError(f"loss.terms.{name}.threshold: expected above 0 and below 1, got {threshold}")


def _check_choice(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UserError(f"{key}: no {value!r}; {suggest(str(value), known)}")


def _needed(outputs: StepOutputs, name: str) -> Tensor:
    value = getattr(outputs, name)
    if not isinstance(value, Tensor):
        raise ValueError(f"outputs.{name}: expected a tensor, got {value}; this loss needs that domain's pass")
    return value
