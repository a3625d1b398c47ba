"""DeepLab-v2 and DeepLab-v3+ (Chen et al., 2017 and 2018), over any backbone of ``backbones``."""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ripu_lightning.errors import require_integer, require_number
from ripu_lightning.networks.backbones import build_backbone
from ripu_lightning.networks.batchnorm import PooledBatchNorm2d, set_batchnorm_eps
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.conv_block import conv_block

V2_RATES = (6, 12, 18, 24)
V3_RATES = (6, 12, 18)
SHORTCUT_CHANNELS = 48
STRIDE_4 = -4  # the level of a backbone's pyramid


class DeepLabV2(nn.Module):
    """Backbone, then four dilated 3×3 convolutions whose outputs are summed; logits at the output stride.

    Args:
        num_classes: 2 or more.
        backbone: ``"resnet101"``, ``"resnet50"``, ``"resnet18"``, ``"mobilenet_v3_large"``,
            ``"efficientnet_lite0"``, or ``"timm/NAME"`` for an encoder of timm.
        output_stride: 8, 16 or 32; most encoders of timm have 32 alone.
        weights: of the backbone: None (random), ``"imagenet"``, or the path of a state dict.
        batchnorm_eps: of every BatchNorm; None keeps the default of each layer; the code of Xie et al. (2022)
            has 0 and freezes BatchNorm.

    Raises:
        UserError: an argument out of range, or weights that cannot be loaded.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet101",
        output_stride: int = 8,
        weights: str | None = None,
        batchnorm_eps: float | None = None,
    ) -> None:
        super().__init__()
        require_integer("DeepLabV2", "num_classes", num_classes, least=2)
        self.num_classes = num_classes
        self.backbone = build_backbone("DeepLabV2", backbone, output_stride, weights)
        self.head = SummedASPP(self.backbone.channels[-1], num_classes)
        set_batchnorm_eps(self, batchnorm_eps)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and backbone features, both at the output stride."""
        features = self.backbone(images)[-1]
        return SegmentationOutput(self.head(features), features)


class DeepLabV3Plus(nn.Module):
    """Backbone, depthwise-separable ASPP with image pooling, and a decoder; logits at stride 4.

    Other arguments as :class:`DeepLabV2`.

    Args:
        channels: width of ASPP and decoder; 512 in the paper, 128 to 256 suit a CPU.
        dropout: before the last convolution, in ``[0, 1)``.

    Raises:
        UserError: an argument out of range, or weights that cannot be loaded.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet101",
        output_stride: int = 8,
        channels: int = 512,
        dropout: float = 0.1,
        weights: str | None = None,
        batchnorm_eps: float | None = None,
    ) -> None:
        super().__init__()
        require_integer("DeepLabV3Plus", "num_classes", num_classes, least=2)
        require_integer("DeepLabV3Plus", "channels", channels, least=1)
        require_number("DeepLabV3Plus", "dropout", dropout, below=1)
        self.num_classes = num_classes
        self.backbone = build_backbone("DeepLabV3Plus", backbone, output_stride, weights)
        low, high = self.backbone.channels[STRIDE_4], self.backbone.channels[-1]
        self.head = SeparableASPPDecoder(low, high, num_classes, channels, dropout)
        set_batchnorm_eps(self, batchnorm_eps)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and ``channels`` decoder features, both at stride 4."""
        levels = self.backbone(images)
        features = self.head.features(levels[STRIDE_4], levels[-1])
        return SegmentationOutput(self.head.classify(features), features)


class SummedASPP(nn.Module):
    """DeepLab-v2's head: the sum of four dilated 3×3 convolutions."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(inputs, num_classes, 3, padding=rate, dilation=rate) for rate in V2_RATES]
        for conv in convs:
            nn.init.normal_(conv.weight, std=0.01)
        self.conv2d_list = nn.ModuleList(convs)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` -> ``(B, C, h, w)``."""
        logits: Tensor = reduce(torch.add, (conv(features) for conv in self.conv2d_list))
        return logits


class SeparableConv(nn.Module):
    """A depthwise 3×3 and a pointwise convolution, each with BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(
            inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False
        )
        self.depthwise_bn = nn.BatchNorm2d(inputs)
        self.pointwise_conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pointwise_bn = nn.BatchNorm2d(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """``(B, inputs, h, w)`` -> ``(B, outputs, h, w)``."""
        hidden = F.relu(self.depthwise_bn(self.depthwise_conv(features)), inplace=True)
        return F.relu(self.pointwise_bn(self.pointwise_conv(hidden)), inplace=True)


class SeparableASPPDecoder(nn.Module):
    """DeepLab-v3+'s head; its parameters are named as in the public checkpoints of the paper."""

    def __init__(self, low: int, high: int, num_classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.parallel_branches = nn.ModuleList(
            [conv_block(high, channels, 1), *(SeparableConv(high, channels, rate) for rate in V3_RATES)]
        )
        self.global_branch = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(high, channels, 1, bias=False),
            PooledBatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )
        self.bottleneck = conv_block(5 * channels, channels, 3)
        self.shortcut = conv_block(low, SHORTCUT_CHANNELS, 1)
        self.decoder = nn.Sequential(
            SeparableConv(channels + SHORTCUT_CHANNELS, channels),
            SeparableConv(channels, channels),
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, num_classes, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # keeps the scale even if BatchNorm is frozen at the identity
                nn.init.kaiming_normal_(module.weight)

    def features(self, low: Tensor, high: Tensor) -> Tensor:
        """Decoder features ``(B, channels, h, w)`` at the size of ``low``."""
        pooled = self.global_branch(high).expand(-1, -1, *high.shape[-2:])
        branches = [branch(high) for branch in self.parallel_branches]
        context = self.bottleneck(torch.cat([*branches, pooled], dim=1))
        context = F.interpolate(context, size=low.shape[-2:], mode="bilinear", align_corners=True)
        fused = torch.cat([context, self.shortcut(low)], dim=1)
        features: Tensor = self.decoder[:2](fused)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Decoder features -> logits ``(B, C, h, w)``."""
        logits: Tensor = self.decoder[2:](features)
        return logits
