"""Terms that learn from the labels of one domain, source or target."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ripu_lightning.errors import InvalidArgument, require_choice, require_integer, require_number
from ripu_lightning.losses import functional as F
from ripu_lightning.losses.terms import LossTerm, StepOutputs, required

LabelDomain = Literal["source", "labelled"]
BALANCED = "balanced"
LABELS = F.IGNORE + 1


class LabelTerm(LossTerm):
    """Base class of the terms that compare the logits of one domain with its labels.

    Args:
        domain: ``"source"``, or ``"labelled"`` for the target's labels; the loss is 0 while there are none.

    Raises:
        InvalidArgument: an argument out of range.
    """

    def __init__(self, domain: LabelDomain = "labelled") -> None:
        super().__init__()
        require_choice(type(self).__name__, "domain", domain, ("source", "labelled"))
        self.domain = domain

    def forward(self, outputs: StepOutputs) -> Tensor:
        """The loss, a scalar tensor."""
        return self.loss(required(outputs, f"{self.domain}_logits"), required(outputs, f"{self.domain}_labels"))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of ``(B, C, H, W)`` logits and ``(B, H, W)`` labels, a scalar tensor."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(logits, labels)")


class CrossEntropy(LabelTerm):
    """:func:`~ripu_lightning.losses.functional.cross_entropy`, weighted by class and focal if wanted.

    Args:
        domain: see :class:`LabelTerm`.
        class_weights: None, one number of 0 or more for each class, or ``"balanced"``:
            :func:`~ripu_lightning.losses.functional.balanced_weights` of the labels seen in training so far, which
            are counted in the buffer ``counts`` (of 256 values; under DDP those of rank 0's batches).
        focal: exponent of the focal factor; 0 leaves it out.
    """

    counts: Tensor
    weights: Tensor

    def __init__(
        self,
        domain: LabelDomain = "labelled",
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        focal: float = 0.0,
    ) -> None:
        super().__init__(domain)
        require_number(type(self).__name__, "focal", focal)
        self.class_weights, self.focal = class_weights, focal
        if class_weights == BALANCED:
            self.register_buffer("counts", torch.zeros(LABELS, dtype=torch.int64))
        elif class_weights is not None:
            self.register_buffer("weights", self._checked(class_weights), persistent=False)

    def require_classes(self, count: int) -> None:
        """Refuse a list of weights of another length."""
        if self.class_weights not in (None, BALANCED) and len(self.weights) != count:
            problem = f"must have one number for each of {count} classes, got {len(self.weights)}"
            raise InvalidArgument(type(self).__name__, "class_weights", problem)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See :func:`~ripu_lightning.losses.functional.cross_entropy`."""
        return F.cross_entropy(logits, labels, weights=self._weights(logits.shape[1], labels), focal=self.focal)

    def _weights(self, classes: int, labels: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        if self.class_weights == BALANCED:
            if self.training:
                self.counts += torch.bincount(labels.flatten(), minlength=LABELS)
            return F.balanced_weights(self.counts[:classes])
        return self.weights

    def _checked(self, weights: Sequence[float] | str) -> Tensor:
        owner = type(self).__name__
        if isinstance(weights, str) or not isinstance(weights, Sequence) or not any(weights):
            problem = f"must be null, '{BALANCED}' or a list with a number above 0, got {weights!r}"
            raise InvalidArgument(owner, "class_weights", problem)
        for index, weight in enumerate(weights):
            require_number(owner, f"class_weights.{index}", weight)
        return torch.tensor(weights, dtype=torch.float32)


class SourceCrossEntropy(CrossEntropy):
    """:class:`CrossEntropy` on the source domain."""

    def __init__(self, class_weights: Sequence[float] | Literal["balanced"] | None = None, focal: float = 0.0) -> None:
        super().__init__("source", class_weights, focal)


class TargetCrossEntropy(CrossEntropy):
    """:class:`CrossEntropy` on the target's labels; 0 while there are none."""

    def __init__(self, class_weights: Sequence[float] | Literal["balanced"] | None = None, focal: float = 0.0) -> None:
        super().__init__("labelled", class_weights, focal)


class OhemCrossEntropy(LabelTerm):
    """:func:`~ripu_lightning.losses.functional.ohem_cross_entropy`, whose arguments these are."""

    def __init__(self, domain: LabelDomain = "labelled", share: float = 0.1, threshold: float = 0.7) -> None:
        super().__init__(domain)
        require_number("OhemCrossEntropy", "share", share, above=True, most=1)
        require_number("OhemCrossEntropy", "threshold", threshold, most=1)
        self.share, self.threshold = share, threshold

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See :func:`~ripu_lightning.losses.functional.ohem_cross_entropy`."""
        return F.ohem_cross_entropy(logits, labels, self.share, self.threshold)


class BoundaryCrossEntropy(LabelTerm):
    """:func:`~ripu_lightning.losses.functional.boundary_cross_entropy`, whose arguments these are."""

    def __init__(self, domain: LabelDomain = "labelled", radius: int = 2, factor: float = 4.0) -> None:
        super().__init__(domain)
        require_integer("BoundaryCrossEntropy", "radius", radius, least=1)
        require_number("BoundaryCrossEntropy", "factor", factor)
        self.radius, self.factor = radius, factor

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See :func:`~ripu_lightning.losses.functional.boundary_cross_entropy`."""
        return F.boundary_cross_entropy(logits, labels, self.radius, self.factor)


class Dice(LabelTerm):
    """:func:`~ripu_lightning.losses.functional.dice`."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See :func:`~ripu_lightning.losses.functional.dice`."""
        return F.dice(logits, labels)


class LovaszSoftmax(LabelTerm):
    """:func:`~ripu_lightning.losses.functional.lovasz_softmax`."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """See :func:`~ripu_lightning.losses.functional.lovasz_softmax`."""
        return F.lovasz_softmax(logits, labels)
