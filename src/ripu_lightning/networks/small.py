"""SmallNet: a network of half a million parameters that trains within minutes on a CPU."""

import torch.nn.functional as F
from torch import Tensor, nn

from ripu_lightning.errors import require_integer, require_number
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.conv_block import conv_block


class SmallNet(nn.Module):
    """An encoder to stride 16 and a decoder that adds each stage back in; logits at stride 2.

    On a CPU it trains about twice as fast in ``torch.channels_last``.

    Args:
        num_classes: 2 or more.
        width: channels at stride 2; deeper stages have 2 and 4 times as many.
        dropout: before the last convolution, in ``[0, 1)``.

    Raises:
        InvalidArgument: an argument out of range.
    """

    def __init__(self, num_classes: int, width: int = 24, dropout: float = 0.0) -> None:
        super().__init__()
        require_integer("SmallNet", "num_classes", num_classes, least=2)
        require_integer("SmallNet", "width", width, least=1)
        require_number("SmallNet", "dropout", dropout, below=1)
        self.num_classes = num_classes
        self.dropout = nn.Dropout2d(dropout)
        channels = (width, 2 * width, 4 * width, 4 * width)
        self.backbone = Encoder(channels)
        self.head = Decoder(channels, num_classes)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and ``width`` features, both at stride 2."""
        features = self.head.features(self.backbone(images))
        return SegmentationOutput(self.head.classifier(self.dropout(features)), features)


class Residual(nn.Module):
    """A dilated 3×3 convolution added to the identity."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """``(B, channels, h, w)``, same shape."""
        return F.relu(features + self.layers(features))


class Encoder(nn.Module):
    """Four stages that each halve the size; the last one uses dilation."""

    def __init__(self, channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, second, third, fourth = channels
        self.stages = nn.ModuleList(
            [
                conv_block(3, first, 3, stride=2),
                nn.Sequential(conv_block(first, second, 3, stride=2), Residual(second)),
                nn.Sequential(conv_block(second, third, 3, stride=2), Residual(third)),
                nn.Sequential(conv_block(third, fourth, 3, stride=2), Residual(fourth, 2), Residual(fourth, 4)),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` -> features at strides 2, 4, 8 and 16."""
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features


class Decoder(nn.Module):
    """From the deepest stage up: narrow by 1×1, upsample, add the next stage, smooth by 3×3."""

    def __init__(self, channels: tuple[int, int, int, int], num_classes: int) -> None:
        super().__init__()
        shallower = channels[-2::-1]
        deeper = channels[:0:-1]
        self.narrow = nn.ModuleList(
            nn.Conv2d(inputs, outputs, 1) for inputs, outputs in zip(deeper, shallower, strict=True)
        )
        self.smooth = nn.ModuleList(conv_block(count, count, 3) for count in shallower)
        self.classifier = nn.Conv2d(channels[0], num_classes, 1)

    def features(self, stages: list[Tensor]) -> Tensor:
        """Features ``(B, width, h, w)`` at stride 2."""
        features = stages[-1]
        for narrow, smooth, stage in zip(self.narrow, self.smooth, stages[-2::-1], strict=True):
            upsampled = F.interpolate(narrow(features), size=stage.shape[-2:], mode="bilinear")
            features = smooth(upsampled + stage)
        return features
