"""BatchNorm where plain training does not fit: kept frozen, without eps, or fed a single value per channel."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ripu_lightning.errors import UserError

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
    """Give every BatchNorm inside ``module`` the same ``eps``; None leaves each its own.

    Raises:
        UserError: it is below 0.
    """
    if eps is None:
        return
    if not eps >= 0:
        raise UserError(f"network.batchnorm_eps: {eps}; expected a number of 0 or more, or null")
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.eps = max(eps, NO_EPS)


def with_eps_inside(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of the same function without any ``eps``: each BatchNorm's is added to its running variance.

    Args:
        module: whose state dict it is.
        state: by parameter name.
    """
    found = dict(state)
    for name, child in module.named_modules():
        if isinstance(child, _BatchNorm) and child.eps > NO_EPS:
            key = f"{name}.running_var"
            found[key] = found[key].float() + child.eps  # 16 bits would swallow it
    return found


def require_frozen_without_eps(module: nn.Module) -> None:
    """Refuse BatchNorm that is to be trained without ``eps``: a channel of variance 0 would divide by zero.

    Raises:
        UserError: any BatchNorm inside ``module`` is in training mode with ``eps`` 0.
    """
    if any(isinstance(child, _BatchNorm) and child.training and child.eps <= NO_EPS for child in module.modules()):
        raise UserError("network.batchnorm_eps: 0 is for frozen BatchNorm; add optimizer.freeze_batchnorm=true")


class PooledBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm after global pooling: a training batch of one image has no variance, so it uses the running one."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
