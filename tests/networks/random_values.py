"""Seeded images and BatchNorm parameters for the tests of networks."""

import torch
from torch import Tensor, nn


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def shake(module: nn.Module) -> nn.Module:
    """Seeded, non-trivial BatchNorm, so that nothing is an identity by accident."""
    generator = torch.Generator().manual_seed(1)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.running_mean.normal_(0, 0.1, generator=generator)
            child.running_var.uniform_(0.5, 1.5, generator=generator)
            for parameter in child.parameters():
                nn.init.normal_(parameter, 0.8, 0.1, generator=generator)
    return module.eval()
