"""A network's weights, averaged over the steps: the teacher of self-training, and the network that is evaluated."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ripu_lightning.errors import UserError
from ripu_lightning.networks.contract import SegmentationOutput


class MovingAverage(AveragedModel):
    """An exponential moving average of a network (Tarvainen and Valpola, NeurIPS 2017), BatchNorm statistics included.

    It stays in eval mode and has no gradients. Call :meth:`begin` before the first step and ``update_parameters``
    after every one.

    Args:
        network: whose weights are averaged.
        decay: share of its weights that the average keeps at each step.
        ramp: keep less at first, ``min(decay, (1 + step) / (10 + step))`` with steps counted from 0, so that the
            weights of the start are soon forgotten.
    """

    def __init__(self, network: nn.Module, decay: float, ramp: bool = False) -> None:
        def average(own: Sequence[Tensor], new: Sequence[Tensor], count: Tensor | int) -> None:
            step = int(count) - 1  # the copy of begin counts too
            kept = min(decay, (1 + step) / (10 + step)) if ramp else decay
            get_ema_multi_avg_fn(kept)(own, new, count)  # type: ignore[no-untyped-call]

        super().__init__(network, multi_avg_fn=average, use_buffers=True)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "MovingAverage":
        """Stays in eval mode, whatever its parent does."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> SegmentationOutput:
        """As the network's."""
        output: SegmentationOutput = self.module(images)
        return output

    @property
    def begun(self) -> bool:
        """Whether it holds weights of the network that trains, and not those that the network was built with."""
        return bool(self.n_averaged > 0)

    def begin(self, network: nn.Module) -> None:
        """The first average is a copy of the network; one that was loaded stays unchanged.

        Raises:
            UserError: weights of 16 bits, in which the average's small steps are lost.
        """
        if any(parameter.element_size() < 4 for parameter in self.parameters()):
            raise UserError(
                "trainer.precision: the small steps of a moving average (teacher, average_decay) are lost in 16-bit "
                "weights; use 16-mixed or bf16-mixed"
            )
        if not self.begun:
            self.update_parameters(network)
