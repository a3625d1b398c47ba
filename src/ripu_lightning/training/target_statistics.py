"""BatchNorm statistics of the target: estimated before every evaluation and acquisition, and used by these alone."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, IterableDataset

from ripu_lightning.errors import UserError
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.seeding import derive_seed
from ripu_lightning.training.active_pool import ActivePool, as_eval_batch
from ripu_lightning.training.eval_mode import evaluating

BATCHES, IMAGES = 16, 4
"""Batches over which statistics are averaged, and images of a batch; a smaller pool has fewer batches."""
KINDS, COUNT = ("running_mean", "running_var"), "num_batches_tracked"


class TargetStatistics(nn.Module):
    """Means and variances of each BatchNorm layer on target images, in place of the network's running statistics.

    The network's own buffers are left as they were, so training continues as if nothing had been estimated.
    A checkpoint holds the statistics, and whether they are those of its weights.

    Args:
        network: whose layers are counted.

    Attributes:
        current: whether they were estimated with the weights of now; if not, :meth:`forward` does not use them.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name, value in _statistics(network).items():
            self.register_buffer(_key(name), value)
        self.current = False

    def get_extra_state(self) -> Tensor:
        """``current``, for the state dict."""
        return torch.tensor(self.current)

    def set_extra_state(self, state: Tensor) -> None:
        """See :meth:`get_extra_state`."""
        self.current = bool(state)

    def forward(self, network: nn.Module, images: Tensor) -> SegmentationOutput:
        """The network's output in eval mode with these statistics, if they are current."""
        used = {buffer_name(key): value for key, value in self.named_buffers()} if self.current else {}
        output: SegmentationOutput = functional_call(network, used, (images,))
        return output

    def estimate(self, network: nn.Module, batches: Iterable[Tensor]) -> None:
        """The mean over the batches of each batch's mean and unbiased variance; all else is in eval mode.

        Args:
            network: in any mode, in which it is left.
            batches: images ``(B, 3, h, w)``, on the network's device.
        """
        layers = [layer for _, layer in _layers(network)]
        momenta, before = [layer.momentum for layer in layers], _statistics(network, (*KINDS, COUNT))
        with evaluating(network):
            try:
                for layer in layers:
                    layer.train().momentum = None  # the cumulative average
                    layer.num_batches_tracked.zero_()  # type: ignore[union-attr]
                for images in batches:
                    # Not by a call, which a compiled network would compile once more for this mode.
                    network.forward(images.contiguous(memory_format=torch.channels_last))
                for key, buffer in self.named_buffers():
                    buffer.copy_(network.get_buffer(buffer_name(key)))
            finally:
                for layer, momentum in zip(layers, momenta, strict=True):
                    layer.momentum = momentum
                for name, value in before.items():
                    network.get_buffer(name).copy_(value)
        self.current = True


def target_batches(pool: ActivePool, seed: int) -> Iterator[Tensor]:
    """Images of the pool in batches ``(B, 3, h, w)``: the same at every call, on every rank and for any world size.

    Images of different sizes pass alone.

    Raises:
        UserError: the pool's loader has no data set of single images.
    """
    loader = pool.pool_dataloader()
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        raise UserError(
            "batchnorm: target needs single images of the pool; let pool_dataloader return a torch DataLoader over a "
            "map-style Dataset, or choose separate"
        )
    dataset, generator = loader.dataset, torch.Generator().manual_seed(derive_seed(seed, "target_statistics"))
    drawn = torch.randperm(len(pool.image_sizes), generator=generator).tolist()
    count = min(len(drawn), BATCHES * IMAGES)
    for first in range(0, max(count - IMAGES + 1, 1), IMAGES):
        samples = [loader.collate_fn([dataset[index]]) for index in drawn[first : first + IMAGES]]
        images = [as_eval_batch(sample, pool.image_sizes).image for sample in samples]
        yield from [torch.cat(images)] if len({image.shape for image in images}) == 1 else images


def _layers(network: nn.Module) -> list[tuple[str, _BatchNorm]]:
    named = network.named_modules()
    return [(name, layer) for name, layer in named if isinstance(layer, _BatchNorm) and layer.track_running_stats]


def _statistics(network: nn.Module, kinds: Sequence[str] = KINDS) -> dict[str, Tensor]:
    """Copies of the running statistics, by the names of their buffers."""
    return {
        f"{name}.{kind}".lstrip("."): getattr(layer, kind).detach().clone()
        for name, layer in _layers(network)
        for kind in kinds
    }


def _key(name: str) -> str:
    return name.replace(".", "/")  # torch allows no dots in a buffer's name


def buffer_name(key: str) -> str:
    """The name of a layer's buffer, from that of its copy in :class:`TargetStatistics`."""
    return key.replace("/", ".")
