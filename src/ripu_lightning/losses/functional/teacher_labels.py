"""Labels from a teacher's confident predictions."""

from torch import Tensor

from ripu_lightning.errors import require_number
from ripu_lightning.losses.functional.inputs import IGNORE, check_logits, promote


def pseudo_labels(logits: Tensor, threshold: float = 0.968) -> Tensor:
    """The predicted class where its probability is above the threshold, else 255.

    The threshold is that of DACS (Tranheden et al., WACV 2021) and DAFormer (Hoyer et al., CVPR 2022).

    Args:
        logits: ``(B, C, H, W)``, floating point.
        threshold: in ``[0, 1]``.

    Returns:
        ``(B, H, W)`` int64, without gradient.

    >>> import torch
    >>> pseudo_labels(torch.tensor([[5.0, 3.0], [0.0, 0.0]]).reshape(1, 2, 1, 2)).tolist()
    [[[0, 255]]]
    """
    check_logits(logits)
    require_number("pseudo_labels", "threshold", threshold, most=1)
    confidence, classes = promote(logits.detach()).softmax(dim=1).max(dim=1)
    return classes.masked_fill(confidence <= threshold, IGNORE)
