"""A strategy that queries the borders between predicted objects, the least certain ones first."""

import torch
from torch import Tensor

from ripu_lightning.acquisition import Budget, RegionType, Scored, ScoreInputs, SelectionRule, Square, Strategy
from ripu_lightning.acquisition import functional as F


def boundary(
    radius: int = 1, region_type: RegionType | None = None, selection_rule: SelectionRule | None = None
) -> Strategy:
    """Squares centred on predicted borders, by margin; then the other pixels by margin."""
    return Scored("boundary", boundary_score, region_type or Square(radius), selection_rule, budget=Budget(ratio=0.022))


def boundary_score(inputs: ScoreInputs) -> Tensor:
    """Scores ``(B, H, W)``: half the margin of a pixel, plus 0.5 on a border; range 0..1."""
    return (F.margin(inputs.logits) + on_border(inputs.logits.argmax(dim=1))) / 2


def on_border(classes: Tensor) -> Tensor:
    """Whether a pixel above, below, left or right is of another class, ``(B, H, W)`` bool.

    >>> on_border(torch.tensor([[[0, 0, 0, 2]]]))
    tensor([[[False, False,  True,  True]]])
    """
    border = torch.zeros_like(classes, dtype=torch.bool)
    below, right = classes[:, 1:] != classes[:, :-1], classes[:, :, 1:] != classes[:, :, :-1]
    border[:, 1:] |= below
    border[:, :-1] |= below
    border[:, :, 1:] |= right
    border[:, :, :-1] |= right
    return border
