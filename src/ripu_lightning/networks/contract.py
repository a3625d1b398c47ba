"""The interface of networks: their output, and the parts that training needs."""

from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn


class SegmentationOutput(NamedTuple):
    """The output of a network.

    Attributes:
        logits: ``(B, C, h, w)`` at the network's own stride.
        features: ``(B, D, h', w')``, the penultimate features.
    """

    logits: Tensor
    features: Tensor


@runtime_checkable
class SegmentationNetwork(Protocol):
    """An ``nn.Module`` that maps ``(B, 3, H, W)`` to :class:`SegmentationOutput`.

    ``backbone`` and ``head`` split its parameters: the head learns ten times faster (Xie et al., 2022).
    """

    backbone: nn.Module
    head: nn.Module
    num_classes: int

    def __call__(self, images: Tensor) -> SegmentationOutput:
        """Logits and features of a batch of normalised images."""
