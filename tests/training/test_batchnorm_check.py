"""Networks that cannot train on single images are found by trying; others, and what they hold, are left alone."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from ripu_lightning.errors import InvalidArgument
from ripu_lightning.losses import WeightedLosses
from ripu_lightning.losses.label_terms import SourceCrossEntropy, TargetCrossEntropy
from ripu_lightning.networks import DeepLabV3Plus, SmallNet
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.smp import SegmentationModelsPytorch
from ripu_lightning.training import SegmentationModule
from ripu_lightning.training.batchnorm_check import require_batch

CLASSES = ["road", "sky", "car"]


class Pooled(nn.Module):
    """A network of somebody else, that normalises what it pools over the image, ``stride`` pixels a side at most."""

    num_classes = 3

    def __init__(self, norm: Callable[[int], nn.Module], stride: int | None = None) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 8, 1)
        self.pool = nn.AdaptiveAvgPool2d(1) if stride is None else nn.AvgPool2d(stride)
        self.norm, self.head = norm(8), nn.Conv2d(8, 3, 1)

    def forward(self, images: Tensor) -> SegmentationOutput:
        found = self.backbone(images)
        return SegmentationOutput(self.head(self.norm(self.pool(found)) + found[..., :1, :1]), found)


def module(network: nn.Module, source: bool = True, batchnorm: str = "separate") -> SegmentationModule:
    terms = {"target_ce": TargetCrossEntropy(), **({"source_ce": SourceCrossEntropy()} if source else {})}
    losses = WeightedLosses(terms, dict.fromkeys(terms, 1.0))
    return SegmentationModule(network, losses, CLASSES, batchnorm=batchnorm)  # type: ignore[arg-type]


def smp(architecture: str) -> nn.Module:
    return SegmentationModelsPytorch(3, architecture, "resnet18", weights=None)


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: Pooled(nn.BatchNorm2d), "BatchNorm2d norm"),
        (lambda: Pooled(nn.SyncBatchNorm), "SyncBatchNorm norm"),
        (lambda: smp("deeplabv3plus"), "BatchNorm2d head.decoder"),
        (lambda: smp("pan"), "BatchNorm2d head.decoder"),
    ],
)
def test_refused(make: Callable[[], nn.Module], layer: str) -> None:
    network = make()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    with pytest.raises(InvalidArgument, match=rf"batch_size is 1, but {layer}.*set 2 or more, or freeze it") as error:
        require_batch(module(network), 1, [(160, 200)])
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    require_batch(module(network), 2, [(160, 200)])
    require_batch(module(network, batchnorm="frozen"), 1, [(160, 200)])


@pytest.mark.parametrize(
    "make",
    [
        lambda: SmallNet(3),
        lambda: DeepLabV3Plus(3, backbone="resnet18", weights=None),  # after pooling, it uses running statistics
        lambda: smp("pspnet"),  # pools to 1x1 without BatchNorm
        lambda: smp("unet"),
        lambda: Pooled(lambda channels: nn.GroupNorm(2, channels)),
        lambda: Pooled(lambda channels: nn.Identity()),
        lambda: Pooled(nn.BatchNorm2d, stride=100),  # one value of a small image, four of those in training
    ],
)
def test_accepted(make: Callable[[], nn.Module]) -> None:
    require_batch(module(make()), 1, [(200, 200)])


def test_joint_batches_need_two_parts() -> None:
    require_batch(module(Pooled(nn.BatchNorm2d), batchnorm="joint"), 1, [(64, 64)])
    with pytest.raises(InvalidArgument, match="batch_size is 1"):
        require_batch(module(Pooled(nn.BatchNorm2d), source=False, batchnorm="joint"), 1, [(64, 64)])


def test_the_smallest_images_count() -> None:
    with pytest.raises(InvalidArgument, match="batch_size is 1"):
        require_batch(module(Pooled(nn.BatchNorm2d, stride=40)), 1, [(200, 200), (60, 60)])
