"""A feature pyramid network for segmentation (FPN; Lin et al., CVPR 2017), over any backbone of ``backbones``."""

import torch.nn.functional as F
from torch import Tensor, nn

from ripu_lightning.errors import InvalidArgument, require_choice, require_integer, require_number
from ripu_lightning.networks.backbones import build_backbone
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.conv_block import conv_block

LEVELS = {2: 5, 4: 4}
"""Finest stride -> number of levels, up to stride 32."""


class FPN(nn.Module):
    """Backbone, then a pyramid that is added from the top down; logits at the finest stride.

    Args:
        num_classes: 2 or more.
        backbone: ``"resnet101"``, ``"resnet50"``, ``"resnet18"``, ``"mobilenet_v3_large"``,
            ``"efficientnet_lite0"``, or ``"timm/NAME"`` for an encoder of timm that has strides 4, 8, 16 and 32.
        channels: width of the pyramid.
        finest_stride: 4, or 2 for thin objects.
        dropout: before the last convolution, in ``[0, 1)``.
        weights: of the backbone: None (random), ``"imagenet"``, or the path of a state dict.

    Raises:
        UserError: an argument out of range, a backbone without the strides, or weights that cannot be loaded.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "efficientnet_lite0",
        channels: int = 64,
        finest_stride: int = 4,
        dropout: float = 0.1,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        require_integer("FPN", "num_classes", num_classes, least=2)
        require_integer("FPN", "channels", channels, least=1)
        require_choice("FPN", "finest_stride", finest_stride, sorted(LEVELS))
        require_number("FPN", "dropout", dropout, below=1)
        self.num_classes = num_classes
        self.levels = LEVELS[finest_stride]
        self.backbone = build_backbone("FPN", backbone, 32, weights)
        inputs = self.backbone.channels[-self.levels :]
        if len(inputs) < self.levels:
            raise InvalidArgument("FPN", "finest_stride", f"is 2, but {backbone} begins at stride 4; set it to 4")
        self.head = PyramidHead(inputs, num_classes, channels, dropout)

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and ``channels`` features of the pyramid, both at the finest stride."""
        features = self.head.features(self.backbone(images)[-self.levels :])
        return SegmentationOutput(self.head.classify(features), features)


class PyramidHead(nn.Module):
    """A 1×1 convolution for each level, their sum from the coarsest to the finest, and one 3×3 block."""

    def __init__(self, inputs: tuple[int, ...], num_classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(count, channels, 1) for count in inputs)
        self.smooth = conv_block(channels, channels, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # keeps the scale even if BatchNorm is frozen at the identity
                nn.init.kaiming_uniform_(module.weight, a=1)

    def features(self, levels: list[Tensor]) -> Tensor:
        """Features ``(B, channels, h, w)`` at the size of the first level, which is the finest."""
        *finer, coarsest = (lateral(level) for lateral, level in zip(self.laterals, levels, strict=True))
        pyramid: Tensor = coarsest
        for level in reversed(finer):
            pyramid = level + F.interpolate(pyramid, size=level.shape[-2:], mode="bilinear")
        features: Tensor = self.smooth(pyramid)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Features -> logits ``(B, C, h, w)``."""
        logits: Tensor = self.classifier(self.dropout(features))
        return logits
