"""EfficientNet-Lite0 (Tan & Le, 2019; the "lite" variant has ReLU6 and no squeeze-excitation) as a backbone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = (  # blocks, kernel, stride, expansion, output channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LAST_BLOCKS = (0, 2, 4, 10, 15)  # of strides 2, 4, 8, 16 and 32


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow pads: when the padding is odd, the extra pixel is below and right."""

    def forward(self, input: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C', ceil(H / stride), ceil(W / stride))``."""
        top, bottom = self._padding(input.shape[-2])
        left, right = self._padding(input.shape[-1])
        if (top, left) == (bottom, right):
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        padded = F.pad(input, (left, right, top, bottom))
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def _padding(self, size: int) -> tuple[int, int]:
        stride, reach = self.stride[0], self.dilation[0] * (self.kernel_size[0] - 1)
        total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
        return total // 2, total - total // 2


def _batchnorm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedBottleneck(nn.Module):
    """Expand 1×1, depthwise k×k, project 1×1; with a residual where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, dilation: int, expansion: int):
        super().__init__()
        hidden = inputs * expansion
        self.expands = expansion > 1
        self.residual = stride == 1 and inputs == outputs
        if self.expands:
            self.expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self.bn0 = _batchnorm(hidden)
        self.depthwise_conv = SameConv2d(hidden, hidden, kernel, stride, dilation=dilation, groups=hidden, bias=False)
        self.bn1 = _batchnorm(hidden)
        self.project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.bn2 = _batchnorm(outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C', H', W')``."""
        hidden = F.relu6(self.bn0(self.expand_conv(inputs)), inplace=True) if self.expands else inputs
        hidden = F.relu6(self.bn1(self.depthwise_conv(hidden)), inplace=True)
        outputs: Tensor = self.bn2(self.project_conv(hidden))
        return outputs + inputs if self.residual else outputs


class EfficientNetLite0(nn.Module):
    """The convolutional part of EfficientNet-Lite0; strides beyond ``output_stride`` become dilation.

    Takes images normalised with the ImageNet mean and standard deviation, like every other backbone here, and
    rescales them itself to the [-1, 1] its published weights were trained with.
    """

    channels = (16, 24, 40, 112, 320)

    imagenet_mean: Tensor
    imagenet_std: Tensor

    def __init__(self, output_stride: int = 16) -> None:
        super().__init__()
        mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
        self.register_buffer("imagenet_mean", mean.reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("imagenet_std", std.reshape(1, 3, 1, 1), persistent=False)
        self.conv_stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2, bias=False)
        self.bn0 = _batchnorm(STEM_CHANNELS)
        self.blocks = nn.ModuleList(_blocks(output_stride))

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` -> the output of the last block at each stride."""
        images = 2 * (images * self.imagenet_std + self.imagenet_mean) - 1
        features = F.relu6(self.bn0(self.conv_stem(images)), inplace=True)
        levels = []
        for index, block in enumerate(self.blocks):
            features = block(features)
            if index in LAST_BLOCKS:
                levels.append(features)
        return levels


def _blocks(output_stride: int) -> list[InvertedBottleneck]:
    blocks, inputs, reached, dilation = [], STEM_CHANNELS, 2, 1
    for count, kernel, stage_stride, expansion, outputs in STAGES:
        for index in range(count):
            stride = stage_stride if index == 0 and reached < output_stride else 1
            blocks.append(InvertedBottleneck(inputs, outputs, kernel, stride, dilation, expansion))
            if index == 0 and stride < stage_stride:
                dilation *= stage_stride  # from the next block on: this one still reads the old grid
            reached, inputs = reached * stride, outputs
    return blocks
