"""Backbones by name: torchvision's ResNets and MobileNetV3, EfficientNet-Lite0, encoders of timm."""

from typing import Protocol

from torch import Tensor, nn
from torchvision import models

from ripu_lightning.errors import InvalidArgument, require_choice, suggest
from ripu_lightning.networks.efficientnet_lite import EfficientNetLite0
from ripu_lightning.networks.timm_backbone import PREFIX, TimmBackbone, build_timm_backbone
from ripu_lightning.networks.weights import load_backbone_weights

BACKBONES = ("efficientnet_lite0", "mobilenet_v3_large", "resnet18", "resnet50", "resnet101")
OUTPUT_STRIDES = (8, 16, 32)


class Backbone(Protocol):
    """Maps ``(B, 3, H, W)`` to a pyramid: features at strides 2, 4, 8, 16 and 32, the finest first.

    Strides beyond the output stride, with which the backbone was built, stay at it. Some encoders of timm begin at
    stride 4: count levels from the end. The last one always holds what the classifier of the backbone would see.
    """

    channels: tuple[int, ...]
    """Of each level."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """The levels, each ``(B, channels[level], ...)``."""


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
        width: int = network.fc.in_features
        self.channels = (network.bn1.num_features, width // 8, width // 4, width // 2, width)
        if output_stride < 16:
            _dilate(self.layer3, before=1)
        if output_stride < 32:
            _dilate(self.layer4, before=16 // output_stride)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` -> features before the pooling of the stem, and of each of the four stages."""
        stem = self.relu(self.bn1(self.conv1(images)))
        first = self.layer1(self.maxpool(stem))
        second = self.layer2(first)
        third = self.layer3(second)
        return [stem, first, second, third, self.layer4(third)]


class MobileNetV3Large(nn.Module):
    """torchvision's MobileNetV3-Large (Howard et al., 2019) without its classifier, under the same parameter names.

    Strides beyond ``output_stride`` become dilation as in :class:`ResNet`.
    """

    channels = (16, 24, 40, 112, 960)

    def __init__(self, output_stride: int = 16) -> None:
        super().__init__()
        self.features: nn.Sequential = models.mobilenet_v3_large(weights=None).features
        if output_stride < 16:
            _dilate(self.features[7:13], before=1)
        if output_stride < 32:
            _dilate(self.features[13:], before=16 // output_stride)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` -> the output of the last block at each stride."""
        levels = [self.features[:2](images)]
        for first, last in ((2, 4), (4, 7), (7, 13), (13, 17)):
            levels.append(self.features[first:last](levels[-1]))
        return levels


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
) -> EfficientNetLite0 | MobileNetV3Large | ResNet | TimmBackbone:
    """The backbone of a network of class ``owner``, whose arguments these are; see :class:`DeepLabV2`."""
    require_choice(owner, "output_stride", output_stride, OUTPUT_STRIDES)
    if name.startswith(PREFIX):
        return build_timm_backbone(owner, name, output_stride, weights)
    if name not in BACKBONES:
        raise InvalidArgument(owner, "backbone", f"{name!r} is unknown; {suggest(name, (*BACKBONES, 'timm/NAME'))}")
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
