"""Optimizers and learning-rate schedules as factories that can be replaced; the defaults are the published ones.

The published recipe is SGD with polynomial decay and a faster head (Xie et al., CVPR 2022).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ripu_lightning.errors import require_integer, require_number
from ripu_lightning.training.eval_mode import evaluating

OptimizerFactory = Callable[[list[dict[str, Any]]], Optimizer]
"""Makes an optimizer of parameter groups, such as ``partial(torch.optim.AdamW, lr=1e-4)``."""
SchedulerFactory = Callable[[Optimizer], LRScheduler]
"""Makes a scheduler that is stepped after every optimizer step, such as ``partial(polynomial_decay, horizon=1000)``."""

published_sgd: OptimizerFactory = partial(torch.optim.SGD, lr=2.5e-4, momentum=0.9, weight_decay=5e-4)
"""SGD with the published values."""


def polynomial_decay(
    optimizer: Optimizer, horizon: int = 62_500, power: float = 0.9, warmup_steps: int = 0
) -> LRScheduler:
    """A learning rate that falls as ``(1 - step / horizon) ** power``.

    Args:
        optimizer: whose learning rates fall.
        horizon: steps after which they are 0, 1 or more; a run may stop earlier (published: 62,500, stopped at 40,000).
        power: exponent, 0 or more (published: 0.9).
        warmup_steps: steps of linear warm-up, 0 or more: at first the rate is also multiplied by
            ``(step + 1) / warmup_steps``.

    Raises:
        InvalidArgument: a value out of range.
    """
    require_integer("polynomial_decay", "horizon", horizon, 1)
    require_number("polynomial_decay", "power", power)
    shape = partial(_polynomial, horizon=horizon, power=power)
    return _scheduler("polynomial_decay", optimizer, shape, warmup_steps)


def cosine_decay(optimizer: Optimizer, horizon: int, warmup_steps: int = 0) -> LRScheduler:
    """A learning rate that falls as half a cosine, ``(1 + cos(pi * step / horizon)) / 2`` (Loshchilov & Hutter, 2017).

    Args:
        optimizer: whose learning rates fall.
        horizon: steps after which they are 0, 1 or more.
        warmup_steps: see :func:`polynomial_decay`.

    Raises:
        InvalidArgument: a value out of range.
    """
    require_integer("cosine_decay", "horizon", horizon, 1)
    return _scheduler("cosine_decay", optimizer, partial(_cosine, horizon=horizon), warmup_steps)


def constant_rate(optimizer: Optimizer, warmup_steps: int = 0) -> LRScheduler:
    """A learning rate that stays, after a linear warm-up if any; see :func:`polynomial_decay`.

    Raises:
        InvalidArgument: ``warmup_steps`` out of range.
    """
    return _scheduler("constant_rate", optimizer, lambda _: 1.0, warmup_steps)


def _polynomial(step: int, horizon: int, power: float) -> float:
    return float(max(0.0, 1 - step / horizon) ** power)


def _cosine(step: int, horizon: int) -> float:
    return (1 + math.cos(math.pi * min(1.0, step / horizon))) / 2


def _scheduler(owner: str, optimizer: Optimizer, shape: Callable[[int], float], warmup_steps: int) -> LRScheduler:
    require_integer(owner, "warmup_steps", warmup_steps)
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(warmup_steps, 1)) * shape(step))


def build_optimizer(
    factory: OptimizerFactory, network: nn.Module, head_factor: float, norm_decay: bool, layer_decay: float
) -> Optimizer:
    """The optimizer of a network's backbone and head, a group for each learning rate and weight decay.

    With ``norm_decay`` and a ``layer_decay`` of 1 there are two groups, ``backbone`` and ``head``.

    Args:
        factory: called with the groups.
        network: has ``backbone`` and ``head``.
        head_factor: the head's learning rate is this many times the factory's.
        norm_decay: whether the factory's weight decay also holds for parameters of one dimension or none (norms,
            biases); if not, theirs is 0.
        layer_decay: layer i of the backbone's L (from 0, in the order of :func:`backbone_layers`) has the factory's
            learning rate times ``layer_decay ** (L - i)``, as in BEiT (Bao et al., ICLR 2022).
    """
    backbone: nn.Module = network.get_submodule("backbone")
    parts = {"backbone": (list(backbone.parameters()), 1.0)} if layer_decay == 1 else _by_layer(backbone, layer_decay)
    parts["head"] = (list(network.get_submodule("head").parameters()), head_factor)
    groups: list[dict[str, Any]] = []
    factors: dict[str, float] = {}
    for name, (parameters, factor) in parts.items():
        decayed = [each for each in parameters if norm_decay or each.ndim > 1]
        others = [each for each in parameters if not norm_decay and each.ndim <= 1]
        if decayed or not others:
            groups.append({"params": decayed, "name": name})
        if others:
            groups.append({"params": others, "name": f"{name}_norms", "weight_decay": 0.0})
        factors |= {name: factor, f"{name}_norms": factor}
    optimizer = factory(groups)
    for group in optimizer.param_groups:
        group["lr"] *= factors.get(group.get("name", ""), 1.0)
    return optimizer


def _by_layer(backbone: nn.Module, layer_decay: float) -> dict[str, tuple[list[nn.Parameter], float]]:
    layers = backbone_layers(backbone)
    parts = {
        f"backbone_{index}": (list(layer.parameters()), layer_decay ** (len(layers) - index))
        for index, layer in enumerate(layers)
    }
    seen = {id(parameter) for parameters, _ in parts.values() for parameter in parameters}
    # Such as the position embeddings of a transformer: before all layers.
    outside = [parameter for parameter in backbone.parameters() if id(parameter) not in seen]
    return ({"backbone": (outside, layer_decay ** len(layers))} if outside else {}) | parts


def backbone_layers(backbone: nn.Module) -> list[nn.Module]:
    """The layers of a backbone for layer-wise learning rates, in the order in which a forward pass uses them.

    A layer is a child of the backbone that has parameters. Lists (``ModuleList``, ``ModuleDict``), a ``Sequential`` of
    blocks, and an only child are opened: their children are layers, and so on. A ``Sequential`` of plain layers alone
    (convolution, norm, activation) is one layer. A ResNet has its first convolution, its norm, and each residual block;
    a SegFormer each patch embedding, block and norm.
    """
    layers = _opened(backbone)
    order: dict[int, int] = {}

    def note(layer: nn.Module, inputs: Any) -> None:
        order.setdefault(id(layer), len(order))

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    parameter = next(backbone.parameters())
    try:
        with evaluating(backbone):
            backbone(torch.zeros(1, 3, 64, 64, device=parameter.device, dtype=parameter.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return sorted(layers, key=lambda layer: order.get(id(layer), -1))  # one that is not called counts as the first


def _opened(module: nn.Module) -> list[nn.Module]:
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    return [layer for child in children for layer in (_opened(child) if _opens(child, children) else [child])]


def _opens(child: nn.Module, siblings: list[nn.Module]) -> bool:
    if type(child) in (nn.ModuleList, nn.ModuleDict):
        return True
    # Not its subclasses: a convolution with its norm and activation is one in torchvision.
    may_open = type(child) is nn.Sequential or len(siblings) == 1
    return may_open and any(True for each in child.children() for _ in each.children())
