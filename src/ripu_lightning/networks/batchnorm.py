"""BatchNorm where plain training does not fit: kept frozen, or fed a single value per channel."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_batchnorm_eval(module: nn.Module) -> None:
    """Freeze every BatchNorm inside ``module``: running statistics in use, no updates, no gradients.

    ``module.train()`` undoes the first half, so call this again after it.
    """
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            child.eval().requires_grad_(False)


class PooledBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm after global pooling: a training batch of one image has no variance, so it uses the running one."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``(B, C, H, W)``."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)
