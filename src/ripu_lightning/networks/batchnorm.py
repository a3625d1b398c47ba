"""BatchNorm that is frozen, has no eps, or sees a single value a channel."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ripu_lightning.errors import InvalidArgument, require_number

NO_EPS = torch.finfo(torch.float32).tiny
"""Stands for an eps of 0, which torch 2.11 refuses: in float32 it changes no variance above 1e-30."""


def set_batchnorm_eval(module: nn.Module) -> None:
    """Freeze every BatchNorm inside ``module``: running statistics in use, no updates, no gradients.

    ``module.train()`` undoes the first half, so call this again after it.
    """
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.eval().requires_grad_(False)


def set_batchnorm_eps(module: nn.Module, eps: float | None) -> None:
    """Give every BatchNorm inside ``module`` the same ``eps``; None changes nothing."""
    if eps is None:
        return
    require_number(type(module).__name__, "batchnorm_eps", eps)
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.eps = max(eps, NO_EPS)


def with_eps_inside(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the same function without any ``eps``: each BatchNorm's is added to its running variance."""
    found = dict(state)
    for name, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.eps > NO_EPS:
            key = f"{name}.running_var"
            found[key] = found[key].float() + child.eps  # 16 bits would swallow it
    return found


def require_frozen_without_eps(module: nn.Module) -> None:
    """Refuse to train BatchNorm without ``eps``: a channel of variance 0 would divide by zero.

    Raises:
        InvalidArgument: any BatchNorm inside ``module`` is in training mode with ``eps`` 0.
    """
    if any(isinstance(child, _BatchNorm) and child.training and child.eps <= NO_EPS for child in module.modules()):
        problem = "is 0, which only frozen BatchNorm allows; set batchnorm to frozen"
        raise InvalidArgument(type(module).__name__, "batchnorm_eps", problem)


class PooledBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm after global pooling: a batch of one image has no variance, so the running statistics are used."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
