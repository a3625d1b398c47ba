"""SegFormer (Xie et al., 2021) from transformers, built from a config; nothing is ever downloaded."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ripu_lightning.errors import InvalidArgument, UserError, require_integer, suggest
from ripu_lightning.extras import import_extra
from ripu_lightning.networks.contract import SegmentationOutput

VARIANTS = {  # encoder widths, encoder depths, width of the decoder; from the paper's appendix
    "b0": ([32, 64, 160, 256], [2, 2, 2, 2], 256),
    "b1": ([64, 128, 320, 512], [2, 2, 2, 2], 256),
    "b2": ([64, 128, 320, 512], [3, 4, 6, 3], 768),
    "b3": ([64, 128, 320, 512], [3, 4, 18, 3], 768),
    "b4": ([64, 128, 320, 512], [3, 8, 27, 3], 768),
    "b5": ([64, 128, 320, 512], [3, 6, 40, 3], 768),
}
LEAST_SIDE = 32


class SegFormer(nn.Module):
    """A hierarchical transformer and a decoder of linear layers; logits at stride 4.

    Args:
        num_classes: 2 or more.
        variant: ``"b0"`` (4 million parameters) to ``"b5"`` (85 million).
        weights: None (random), or a folder that ``save_pretrained`` of transformers wrote: of a SegFormer for
            segmentation, or of its encoder alone. A head for other classes stays random.

    Raises:
        UserError: no such variant, weights that cannot be loaded, or transformers is not installed.
    """

    def __init__(self, num_classes: int, variant: str = "b0", weights: str | None = None) -> None:
        super().__init__()
        require_integer("SegFormer", "num_classes", num_classes, least=2)
        self.num_classes = num_classes
        if variant not in VARIANTS:
            raise InvalidArgument("SegFormer", "variant", f"{variant!r} is unknown; {suggest(variant, VARIANTS)}")
        transformers = import_extra("transformers", "segformer", "SegFormer")
        widths, depths, decoder = VARIANTS[variant]
        config = transformers.SegformerConfig(
            hidden_sizes=widths, depths=depths, decoder_hidden_size=decoder, num_labels=num_classes
        )
        model_class = transformers.SegformerForSemanticSegmentation
        model = model_class(config) if weights is None else _load(model_class, config, variant, Path(weights))
        self.backbone: nn.Module = model.segformer
        self.head = nn.ModuleDict({"decoder": model.decode_head, "classifier": model.decode_head.classifier})
        model.decode_head.classifier = nn.Identity()  # so that the decoder returns its features

    def forward(self, images: Tensor) -> SegmentationOutput:
        """``(B, 3, H, W)`` -> logits and the decoder's fused features, both at stride 4.

        Raises:
            UserError: a side shorter than 32 pixels, for which the last stage would be empty.
        """
        if min(images.shape[-2:]) < LEAST_SIDE:
            height, width = images.shape[-2:]
            raise UserError(f"SegFormer: images must be {LEAST_SIDE}x{LEAST_SIDE} or larger, got {height}x{width}")
        features = self.head["decoder"](self.backbone(images, output_hidden_states=True).hidden_states)
        return SegmentationOutput(self.head["classifier"](features), features)


def _load(model_class: Any, config: Any, variant: str, folder: Path) -> Any:
    if not (folder / "config.json").is_file():
        problem = f"must be a folder that save_pretrained wrote; there is no config.json in {folder}"
        raise InvalidArgument("SegFormer", "weights", problem)
    try:
        model, report = model_class.from_pretrained(
            folder, config=config, local_files_only=True, ignore_mismatched_sizes=True, output_loading_info=True
        )
    except Exception as error:  # transformers can raise anything for damaged or missing files
        reason = " ".join(str(error).split())[:200]
        raise InvalidArgument("SegFormer", "weights", f"cannot be loaded from {folder} ({reason})") from error
    keys = [*report["missing_keys"], *report["unexpected_keys"], *(entry[0] for entry in report["mismatched_keys"])]
    strange = sorted(key for key in keys if key.startswith("segformer."))
    if strange:
        problem = f"in {folder} are not those of a SegFormer {variant}; the first difference is {strange[0]}"
        raise InvalidArgument("SegFormer", "weights", problem)
    return model.float()  # weights in half precision would stay so
