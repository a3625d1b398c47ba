"""Encoders of timm, by name, as backbones."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ripu_lightning.errors import InvalidArgument
from ripu_lightning.extras import import_extra
from ripu_lightning.networks.efficientnet_lite import IMAGENET_MEAN, IMAGENET_STD
from ripu_lightning.networks.weights import fill, not_downloaded, read_state, short_reason

PREFIX = "timm/"
STRIDES = (2, 4, 8, 16, 32)
PROBE = (64, 96)  # not square, so that encoders of one fixed size are found out


class TimmBackbone(nn.Module):
    """An encoder that ``timm.create_model(..., features_only=True)`` built; meets :class:`Backbone`.

    Takes images normalised with the ImageNet mean and standard deviation, and rescales them to those the encoder was
    trained with.

    Args:
        encoder: of timm.
        mean: of each channel of the encoder's training images.
        std: likewise.

    Raises:
        ValueError: the encoder refuses images of 64x96.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, encoder: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        wide = (1, 3, 1, 1)
        mean_here, std_here = (torch.tensor(each).reshape(wide) for each in (IMAGENET_MEAN, IMAGENET_STD))
        mean_there, std_there = (torch.tensor(each).reshape(wide) for each in (mean, std))
        self.register_buffer("scale", std_here / std_there, persistent=False)
        self.register_buffer("shift", (mean_here - mean_there) / std_there, persistent=False)
        self.encoder = encoder
        self.channels_last = getattr(getattr(encoder, "output_fmt", None), "value", "NCHW") == "NHWC"
        levels = self._probe()
        self.channels = tuple(level.shape[1] for level in levels)
        self.strides = tuple(PROBE[0] // level.shape[2] for level in levels)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` -> the encoder's features, the finest first."""
        levels = self.encoder(images * self.scale + self.shift)
        return [level.permute(0, 3, 1, 2) if self.channels_last else level for level in levels]

    @torch.no_grad()
    def _probe(self) -> list[Tensor]:
        """The features of a small image: the metadata of timm do not say which sizes an encoder takes."""
        self.eval()
        try:
            return self.forward(torch.zeros(1, 3, *PROBE))
        except Exception as error:  # encoders can raise anything
            raise ValueError(" ".join(str(error).split())[:200]) from error
        finally:
            self.train()


def build_timm_backbone(owner: str, name: str, output_stride: int, weights: str | None) -> TimmBackbone:
    """The backbone ``"timm/NAME"`` of a network of class ``owner``; see :class:`DeepLabV2` for the arguments.

    Raises:
        UserError: unknown names, an encoder without a pyramid of strides 4, 8, 16 and 32, one that takes a fixed size
            or has another output stride, weights that cannot be loaded, or a missing package.
    """
    timm = import_extra("timm", "smp", f"{owner}: backbone")
    if not timm.is_model(name.removeprefix(PREFIX)):
        raise InvalidArgument(owner, "backbone", f"{name!r} is unknown to timm; timm.list_models() has the names")
    encoder = _create(timm, owner, name, output_stride, weights == "imagenet")
    config = encoder.pretrained_cfg
    try:
        backbone = TimmBackbone(encoder, config["mean"], config["std"])
    except ValueError as error:
        raise InvalidArgument(owner, "backbone", f"{name} does not take images of any size ({error})") from error
    wanted = tuple(min(stride, output_stride) for stride in STRIDES)
    if backbone.strides[-5:] != wanted and backbone.strides[-4:] != wanted[1:]:
        problem = f"{name} has features at strides {_listed(backbone.strides)}, expected {_listed(wanted[1:])}"
        raise InvalidArgument(owner, "backbone", problem)
    if weights not in {None, "imagenet"}:
        fill(backbone, read_state(owner, Path(str(weights))), f"{owner}: weights {weights}")
    return backbone


def _create(timm: Any, owner: str, name: str, output_stride: int, pretrained: bool) -> Any:
    dilated = {} if output_stride == STRIDES[-1] else {"output_stride": output_stride}
    try:
        return timm.create_model(name.removeprefix(PREFIX), pretrained, features_only=True, **dilated)
    except Exception as error:  # encoders without features and failed downloads can raise anything
        if pretrained:
            raise not_downloaded(owner, name, error) from error
        problem = f"{name} gives no features at output stride {output_stride} ({short_reason(error)})"
        raise InvalidArgument(owner, "backbone", problem) from error


def _listed(strides: tuple[int, ...]) -> str:
    return ", ".join(map(str, strides))
