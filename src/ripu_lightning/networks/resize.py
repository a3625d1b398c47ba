"""Resizing of logits: always bilinear with aligned corners, as in the paper's code."""

from torch import Tensor
from torch.nn.functional import interpolate


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """``(B, C, h, w)`` in any precision -> ``(B, C, H, W)`` float32: half-precision logits would change picks."""
    full = logits.float()
    if full.shape[-2:] == size:
        return full
    return interpolate(full, size=size, mode="bilinear", align_corners=True)
