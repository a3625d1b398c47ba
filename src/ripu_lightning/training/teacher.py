"""The teacher of self-training: the student's weights, averaged over the steps."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ripu_lightning.errors import UserError
from ripu_lightning.networks.contract import SegmentationOutput


class Teacher(AveragedModel):
    """An exponential moving average of a network (Tarvainen and Valpola, NeurIPS 2017), BatchNorm statistics included.

    It stays in eval mode and has no gradients. Call :meth:`begin` before the first step and ``update_parameters``
    after every one.

    Args:
        network: the student.
        decay: share of its weights that the teacher keeps at each step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        super().__init__(network, multi_avg_fn=average, use_buffers=True)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stays in eval mode, whatever its parent does."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> SegmentationOutput:
        """As the network's."""
        output: SegmentationOutput = self.module(images)
        return output

    def begin(self, network: nn.Module) -> None:
        """The first teacher is a copy of the student; one that was loaded stays unchanged.

        Raises:
            UserError: weights of 16 bits, in which a teacher's small steps are lost.
        """
        if any(parameter.element_size() < 4 for parameter in self.parameters()):
            raise UserError(
                "trainer.precision: the teacher's small steps are lost in 16-bit weights; use 16-mixed or bf16-mixed"
            )
        if self.n_averaged == 0:
            self.update_parameters(network)
