"""The published optimizer and learning-rate schedule (Xie et al., CVPR 2022), as factories that can be replaced."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ripu_lightning.errors import require_integer, require_number

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
"""Makes an optimizer of parameter groups, such as ``partial(torch.optim.AdamW, lr=1e-4)``."""
SchedulerFactory = Callable[[Optimizer], LRScheduler]
"""Makes a scheduler that is stepped after every optimizer step, such as ``partial(polynomial_decay, horizon=1000)``."""

published_sgd: OptimizerFactory = partial(torch.optim.SGD, lr=2.5e-4, momentum=0.9, weight_decay=5e-4)
"""SGD with the published values."""


def polynomial_decay(optimizer: Optimizer, horizon: int = 62_500, power: float = 0.9) -> LRScheduler:
    """A learning rate that falls as ``(1 - step / horizon) ** power``.

    Args:
        optimizer: whose learning rates fall.
        horizon: steps after which they are 0, 1 or more; a run may stop earlier (published: 62,500, stopped at 40,000).
        power: exponent, 0 or more (published: 0.9).

    Raises:
        InvalidArgument: a value out of range.
    """
    require_integer("polynomial_decay", "horizon", horizon, 1)
    require_number("polynomial_decay", "power", power)
    return LambdaLR(optimizer, lambda step: float(max(0.0, 1 - step / horizon) ** power))
