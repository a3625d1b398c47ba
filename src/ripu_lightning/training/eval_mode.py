"""Evaluation mode for a while: every module returns to the mode it had."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients and TF32; afterwards each submodule is as before (frozen BatchNorm stays frozen)."""
    modes = [(child, child.training) for child in module.modules()]
    module.eval()
    try:
        # Convolutions in TF32 would change picks from one kind of GPU to the next.
        cudnn = torch.backends.cudnn
        with (
            torch.no_grad(),
            cudnn.flags(
                enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
            ),
        ):
            yield
    finally:
        for child, training in modes:
            child.training = training
