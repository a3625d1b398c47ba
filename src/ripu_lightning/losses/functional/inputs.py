"""Checks of logits and labels, and the pixels that have a label."""

import torch
from torch import Tensor

IGNORE = 255


def promote(logits: Tensor) -> Tensor:
    """Logits in float32; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def check_logits(logits: Tensor) -> None:
    """Raise ValueError unless they are ``(B, C, H, W)`` and floating point."""
    if logits.ndim != 4 or not logits.is_floating_point():
        raise ValueError(f"logits: expected floating point (B, C, H, W), got {logits.dtype} {tuple(logits.shape)}")


def check_labels(logits: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless they are ``(B, H, W)`` as the logits, and uint8 or int64."""
    batch, _, height, width = logits.shape
    if labels.shape != (batch, height, width):
        raise ValueError(
            f"labels: expected (B, H, W) = {(batch, height, width)} to match the logits, got {tuple(labels.shape)}"
        )
    if labels.dtype not in (torch.uint8, torch.int64):
        raise ValueError(f"labels: expected uint8 or int64, got {labels.dtype}")


def labelled_pixels(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The pixels that have a label: logits ``(N, C)``, promoted, and labels ``(N,)``, int64."""
    check_logits(logits)
    check_labels(logits, labels)
    known = labels != IGNORE
    return promote(logits.permute(0, 2, 3, 1)[known]), labels[known].long()
