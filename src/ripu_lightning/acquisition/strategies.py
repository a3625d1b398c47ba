"""Strategies: named pairs of a score and a geometry. The budget is chosen apart from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.seeding import derive_seed


@dataclass(frozen=True)
class ScoreInputs:
    """What a score may look at: never the truth.

    Attributes:
        logits: ``(B, C, H, W)`` at the label's own resolution, network in eval mode.
        image_ids: one id an image.
        round: the round that is being bought, 1-based.
        seed: the run's seed.
    """

    logits: Tensor
    image_ids: Sequence[str]
    round: int
    seed: int


@dataclass(frozen=True)
class Strategy:
    """How to choose: a score for every pixel, the square that a pick labels and the square that it blocks.

    Attributes:
        name: what the label store and the tables call it.
        score: :class:`ScoreInputs` -> ``(B, H, W)``; higher is asked first. It depends on one image at a time.
        radius: a pick labels the square of this radius.
        exclusion: a pick makes the square of this radius unavailable, for all later rounds too.
    """

    name: str
    score: Callable[[ScoreInputs], Tensor]
    radius: int
    exclusion: int


def ripu(radius: int = 1, eps: float = 0.0) -> Strategy:
    """RIPU, region-based annotation: impurity x uncertainty, a square a pick (Xie et al., 2022)."""
    return Strategy("ripu", lambda inputs: F.ripu(inputs.logits, radius, eps), radius, exclusion=2 * radius)


def ripu_point(radius: int = 32, eps: float = 0.0) -> Strategy:
    """RIPU, pixel-based annotation: impurity over the square x the pixel's entropy, one pixel a pick."""
    return Strategy("ripu_point", lambda inputs: F.ripu_point(inputs.logits, radius, eps), 0, exclusion=radius)


def entropy(radius: int = 1) -> Strategy:
    """The most uncertain pixels and the square around them; ``radius=0`` asks single pixels."""
    return Strategy("entropy", lambda inputs: F.entropy(inputs.logits), radius, exclusion=2 * radius)


def random(radius: int = 1) -> Strategy:
    """Squares drawn at random, from (seed, round, image id) alone; ``radius=0`` draws single pixels."""
    return Strategy("random", random_score, radius, exclusion=2 * radius)


def random_score(inputs: ScoreInputs) -> Tensor:
    """Uniform noise ``(B, H, W)`` that is the same on every device and for every batch split."""
    height, width = inputs.logits.shape[-2:]
    maps = []
    for image_id in inputs.image_ids:
        generator = torch.Generator().manual_seed(derive_seed(inputs.seed, "random", inputs.round, image_id))
        maps.append(torch.rand((height, width), generator=generator))
    return torch.stack(maps).to(inputs.logits.device)
