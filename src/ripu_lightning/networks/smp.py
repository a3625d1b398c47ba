"""Any network of segmentation_models_pytorch, by the names of its architecture and its encoder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ripu_lightning.errors import UserError, suggest
from ripu_lightning.networks.arguments import at_least
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.extras import import_extra
from ripu_lightning.networks.weights import fill, read_state


class SegmentationModelsPytorch(nn.Module):
    """Encoder, decoder and segmentation head as ``smp.create_model`` builds them; logits mostly at full size.

    Images that the architecture can not take as they are get zeros below and right, which are cut off again.

    Args:
        num_classes: 2 or more.
        architecture: ``"unet"``, ``"fpn"``, ``"upernet"``, ... (``"dpt"``, which wants a ViT, is left out).
        encoder: ``"resnet34"``, ``"mit_b0"``, ..., or ``"tu-NAME"`` for a network of timm.
        weights: of the encoder: None (random), ``"imagenet"`` (downloaded), or the path of a state dict.

    Raises:
        UserError: no such names, a pair that does not fit, weights that cannot be loaded, or no package.
    """

    def __init__(
        self, num_classes: int, architecture: str = "unet", encoder: str = "resnet34", weights: str | None = None
    ) -> None:
        super().__init__()
        self.num_classes = at_least("num_classes", num_classes, 2)
        smp = import_extra("segmentation_models_pytorch", "smp", "network")
        _check_names(smp, architecture, encoder)
        model = _create(smp, architecture, encoder, "imagenet" if weights == "imagenet" else None, num_classes)
        if weights not in {None, "imagenet"}:
            fill(model.encoder, read_state(Path(str(weights))), f"network.weights: {weights}")
        self.divisor: int = model.encoder.output_stride if model.requires_divisible_input_shape else 1
        self.backbone: nn.Module = model.encoder
        self.head = nn.ModuleDict({"decoder": model.decoder, "classifier": model.segmentation_head})

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and what the decoder gives, each at its own stride."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % self.divisor, 0, -height % self.divisor))
        features = self.head["decoder"](self.backbone(padded))
        logits = self.head["classifier"](features)
        return SegmentationOutput(*(_cut(each, images, padded) for each in (logits, features)))


def _cut(values: Tensor, images: Tensor, padded: Tensor) -> Tensor:
    """The part of ``(B, C, h, w)`` that covers the images rather than their padding."""
    sizes = zip(values.shape[-2:], images.shape[-2:], padded.shape[-2:], strict=True)
    height, width = (-(-cells * inside // whole) for cells, inside, whole in sizes)
    return values[..., :height, :width]


def _check_names(smp: Any, architecture: str, encoder: str) -> None:
    _known("architecture", architecture, set(smp.MODEL_ARCHITECTURES_MAPPING) - {"dpt"})
    if encoder.startswith("tu-"):
        timm = import_extra("timm", "smp", "network.encoder")
        if not timm.is_model(encoder[3:]):
            _known("encoder", encoder, [f"tu-{name}" for name in timm.list_models()])
    else:
        _known("encoder", encoder, smp.encoders.get_encoder_names())


def _known(key: str, name: str, names: Iterable[str]) -> None:
    known = set(names)
    if name not in known:
        raise UserError(f"network.{key}: segmentation_models_pytorch has no {name!r}; {suggest(name, known)}")


def _create(smp: Any, architecture: str, encoder: str, weights: str | None, num_classes: int) -> Any:
    try:
        return smp.create_model(architecture, encoder, weights, classes=num_classes)
    except Exception as error:  # names that do not go together, and downloads, fail in any way
        reason = " ".join(str(error).split())[:200]
        if weights is not None:
            raise UserError(
                f"network.weights: could not get ImageNet weights of {encoder} ({reason}); fetch them elsewhere and "
                "give the path of a file that torch.save(network.backbone.state_dict(), path) wrote"
            ) from error
        raise UserError(f"network.encoder: {encoder} does not fit architecture {architecture} ({reason})") from error
