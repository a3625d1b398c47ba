"""Training on single images, tried before training: BatchNorm cannot learn from one value a channel."""

from collections.abc import Collection
from copy import deepcopy

import torch

from ripu_lightning.errors import InvalidArgument
from ripu_lightning.networks.batchnorm import set_batchnorm_eval
from ripu_lightning.training.module import SegmentationModule

LARGEST = 128
"""Side of the images of the first try; only if it fails are images tried as large as those of training."""


def require_batch(module: SegmentationModule, batch_size: int, sizes: Collection[tuple[int, int]]) -> None:
    """Refuse a network that cannot train on the single images that it will get, as those with BatchNorm after pooling.

    The parts of a batch pass one after the other, so each must be large enough; with ``batchnorm="joint"`` they pass
    together. The network itself is not changed.

    Args:
        module: holds the network.
        batch_size: images of each part, on each process.
        sizes: ``(H, W)`` of the images of training.

    Raises:
        InvalidArgument: naming the layer.
    """
    if batch_size > 1 or (module.batchnorm == "joint" and _parts(module.losses.domains) > 1):
        return
    for size in sorted(set(sizes)):
        small = min(size[0], LARGEST), min(size[1], LARGEST)
        layer = _first_that_fails(module, small)
        if layer and small != size:
            layer = _first_that_fails(module, size)
        if layer:
            problem = (
                f"is 1, but {layer} of the network would get one value a channel, from which it cannot learn; "
                "set 2 or more, or freeze it (batchnorm=frozen)"
            )
            raise InvalidArgument("ActiveDataModule", "batch_size", problem)


def _parts(domains: Collection[str]) -> int:
    """Images of a joint batch at least: the labelled image may be the target's."""
    return len(set(domains) - {"labelled"} | ({"target"} if "labelled" in domains else set()))


def _first_that_fails(module: SegmentationModule, size: tuple[int, int]) -> str | None:
    """The layer that refuses one image of this size in training; None for none."""
    network, entered = deepcopy(module.network).train(), ["a layer"]
    if module.batchnorm == "frozen":
        set_batchnorm_eval(network)
    for name, child in network.named_modules():
        child.register_forward_pre_hook(lambda child, _, name=name: entered.append(f"{type(child).__name__} {name}"))
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            network.forward(torch.rand(1, 3, *size))
        except ValueError as error:
            return entered[-1] if "Expected more than 1 value per channel" in str(error) else None
        except Exception:  # whatever else is wrong, training says it
            return None
    return None
