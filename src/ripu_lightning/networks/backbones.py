"""Backbones by name: torchvision's ResNets and MobileNetV3, EfficientNet-Lite0; output stride 8, 16 or 32."""

from typing import Protocol

from torch import Tensor, nn
from torchvision import models

from ripu_lightning.errors import InvalidArgument, require_choice, suggest
from ripu_lightning.networks.efficientnet_lite import EfficientNetLite0
from ripu_lightning.networks.weights import load_backbone_weights

BACKBONES = ("efficientnet_lite0", "mobilenet_v3_large", "resnet18", "resnet50", "resnet101")
OUTPUT_STRIDES = (8, 16, 32)


class Backbone(Protocol):
    """Maps ``(B, 3, H, W)`` to low-level features at stride 4 and high-level features at the output stride."""

    low_channels: int
    high_channels: int

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Low-level ``(B, low_channels, ...)`` and high-level ``(B, high_channels, ...)`` features."""


class ResNet(nn.Module):
    """A torchvision ResNet without its classifier, under the same parameter names.

    Strides beyond ``output_stride`` become dilation, block by block as in torchvision's
    ``replace_stride_with_dilation``, which resnet18 does not have.
    """

    def __init__(self, name: str, output_stride: int = 8) -> None:
        super().__init__()
        network = models.get_model(name, weights=None)
        self.conv1 = network.conv1
        self.bn1 = network.bn1
        self.relu = network.relu
        self.maxpool = network.maxpool
        self.layer1 = network.layer1
        self.layer2 = network.layer2
        self.layer3 = network.layer3
        self.layer4 = network.layer4
        self.high_channels: int = network.fc.in_features
        self.low_channels: int = self.high_channels // 8
        if output_stride < 16:
            _dilate(self.layer3, before=1)
        if output_stride < 32:
            _dilate(self.layer4, before=16 // output_stride)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` -> features at stride 4 and at the output stride."""
        low: Tensor = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(images)))))
        high: Tensor = self.layer4(self.layer3(self.layer2(low)))
        return low, high


class MobileNetV3Large(nn.Module):
    """torchvision's MobileNetV3-Large (Howard et al., 2019) without its classifier, under the same parameter names.

    Strides beyond ``output_stride`` become dilation as in :class:`ResNet`.
    """

    low_channels = 24
    high_channels = 960

    def __init__(self, output_stride: int = 16) -> None:
        super().__init__()
        self.features: nn.Sequential = models.mobilenet_v3_large(weights=None).features
        if output_stride < 16:
            _dilate(self.features[7:13], before=1)
        if output_stride < 32:
            _dilate(self.features[13:], before=16 // output_stride)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` -> features at stride 4, ``(B, 24, ...)``, and at the output stride, ``(B, 960, ...)``."""
        low: Tensor = self.features[:4](images)
        high: Tensor = self.features[4:](low)
        return low, high


def _dilate(stage: nn.Module, before: int) -> None:
    """Remove a stage's stride: the convolutions after the one that had it dilate twice as much as ``before``."""
    dilation = before
    for conv in stage.modules():
        if not isinstance(conv, nn.Conv2d):
            continue
        halves = conv.stride == (2, 2)
        conv.stride = (1, 1)
        reach = conv.kernel_size[0] // 2
        if reach:
            conv.dilation, conv.padding = (dilation, dilation), (reach * dilation, reach * dilation)
            if halves:  # this convolution still reads the old grid, those after it the new one
                dilation = 2 * before


def build_backbone(
    owner: str, name: str, output_stride: int, weights: str | None = None
) -> EfficientNetLite0 | MobileNetV3Large | ResNet:
    """The backbone of a network of class ``owner``, whose arguments these are; see :class:`DeepLabV2`."""
    if name not in BACKBONES:
        raise InvalidArgument(owner, "backbone", f"{name!r} is unknown; {suggest(name, BACKBONES)}")
    require_choice(owner, "output_stride", output_stride, OUTPUT_STRIDES)
    backbone: EfficientNetLite0 | MobileNetV3Large | ResNet
    if name == "efficientnet_lite0":
        backbone = EfficientNetLite0(output_stride)
    elif name == "mobilenet_v3_large":
        backbone = MobileNetV3Large(output_stride)
    else:
        backbone = ResNet(name, output_stride)
    if weights is not None:
        load_backbone_weights(owner, backbone, name, weights)
    return backbone
