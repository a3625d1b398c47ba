"""Any network of segmentation_models_pytorch, by the names of its architecture and its encoder."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ripu_lightning.errors import InvalidArgument, require_integer, suggest
from ripu_lightning.extras import import_extra
from ripu_lightning.networks.contract import SegmentationOutput
from ripu_lightning.networks.weights import fill, not_downloaded, read_state, short_reason

OWNER = "SegmentationModelsPytorch"


class SegmentationModelsPytorch(nn.Module):
    """Encoder, decoder and segmentation head as ``smp.create_model`` builds them; logits mostly at full size.

    Images whose size the architecture does not accept are padded with zeros below and right; the output is cropped.

    Args:
        num_classes: 2 or more.
        architecture: ``"unet"``, ``"fpn"``, ``"upernet"``, ... (except ``"dpt"``, which needs a ViT).
        encoder: ``"resnet34"``, ``"mit_b0"``, ..., or ``"tu-NAME"`` for a network of timm.
        weights: of the encoder: None (random), ``"imagenet"`` (downloaded), or the path of a state dict.

    Raises:
        UserError: unknown names, a pair that does not fit, weights that cannot be loaded, or a missing package.
    """

    def __init__(
        self, num_classes: int, architecture: str = "unet", encoder: str = "resnet34", weights: str | None = None
    ) -> None:
        super().__init__()
        require_integer(OWNER, "num_classes", num_classes, least=2)
        self.num_classes = num_classes
        smp = import_extra("segmentation_models_pytorch", "smp", OWNER)
        _check_names(smp, architecture, encoder)
        model = _create(smp, architecture, encoder, "imagenet" if weights == "imagenet" else None, num_classes)
        if weights not in {None, "imagenet"}:
            fill(model.encoder, read_state(OWNER, Path(str(weights))), f"{OWNER}: weights {weights}")
        self.divisor: int = model.encoder.output_stride if model.requires_divisible_input_shape else 1
        self.backbone: nn.Module = model.encoder
        self.head = nn.ModuleDict({"decoder": model.decoder, "classifier": model.segmentation_head})

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and decoder features, each at its own stride."""
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
        timm = import_extra("timm", "smp", f"{OWNER}: encoder")
        if not timm.is_model(encoder[3:]):
            _known("encoder", encoder, [f"tu-{name}" for name in timm.list_models()])
    else:
        _known("encoder", encoder, smp.encoders.get_encoder_names())


def _known(argument: str, name: str, names: Iterable[str]) -> None:
    known = set(names)
    if name not in known:
        problem = f"{name!r} is unknown to segmentation_models_pytorch; {suggest(name, known)}"
        raise InvalidArgument(OWNER, argument, problem)


def _create(smp: Any, architecture: str, encoder: str, weights: str | None, num_classes: int) -> Any:
    try:
        return smp.create_model(architecture, encoder, weights, classes=num_classes)
    except Exception as error:  # pairs that do not fit and failed downloads can raise anything
        if weights is not None:
            raise not_downloaded(OWNER, encoder, error) from error
        problem = f"{encoder} does not fit architecture {architecture} ({short_reason(error)})"
        raise InvalidArgument(OWNER, "encoder", problem) from error
