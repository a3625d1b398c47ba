"""Strategies that consist of an acquisition function: random, uncertainty, RIPU, PixelPick, BALD and HALO.

Each takes another region type or selection rule instead of its own, which ``None`` stands for.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from ripu_lightning.acquisition import functional as F
from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.region_types import RegionType
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.selection_rules import KCentre, SelectionRule, TopRandom
from ripu_lightning.acquisition.squares import Pixel, Square
from ripu_lightning.acquisition.strategy import Scored, Strategy
from ripu_lightning.errors import require_integer, require_number
from ripu_lightning.seeding import derive_seed

Region: TypeAlias = RegionType | None
Rule: TypeAlias = SelectionRule | None

# The budgets of most results of Xie et al. (CVPR 2022).
REGIONS = Budget(ratio=0.022)
POINTS = Budget(clicks=40)


def random(radius: int = 1, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """Random regions, from (seed, round, image id) alone: the baseline for every other strategy."""
    region_type = region_type or _square("random", radius)
    # Drawn for each region, not for each pixel: the mean of many draws would never favour a large superpixel.
    return Scored("random", random_score, region_type, selection_rule or TopRandom(share=1.0), budget=REGIONS)


def entropy(radius: int = 1, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """Entropy of the prediction (Shannon, 1948); for squares, that of the centre."""
    region_type = region_type or _square("entropy", radius)
    return Scored("entropy", lambda inputs: F.entropy(inputs.logits), region_type, selection_rule, budget=REGIONS)


def least_confidence(radius: int = 1, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """One minus the probability of the predicted class (Lewis & Gale, SIGIR 1994)."""
    name, region_type = "least_confidence", region_type or _square("least_confidence", radius)
    return Scored(name, lambda inputs: F.least_confidence(inputs.logits), region_type, selection_rule, budget=REGIONS)


def margin(radius: int = 1, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """Best versus second best: how near the two most probable classes are (Scheffer et al., IDA 2001)."""
    region_type = region_type or _square("margin", radius)
    return Scored("margin", lambda inputs: F.margin(inputs.logits), region_type, selection_rule, budget=REGIONS)


def impurity(radius: int = 1, eps: float = 0.0, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """RIPU without its uncertainty: how mixed the predicted classes of the square are (Xie et al., 2022, eq. 2)."""
    return _ripu("impurity", F.region_impurity, radius, eps, region_type, selection_rule)


def uncertainty(radius: int = 1, eps: float = 0.0, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """RIPU without its impurity: the mean entropy over the square (Xie et al., 2022, eq. 3)."""
    return _ripu("uncertainty", F.region_uncertainty, radius, eps, region_type, selection_rule)


def ripu(radius: int = 1, eps: float = 0.0, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """RIPU, region-based annotation: impurity x uncertainty, a square a query (Xie et al., CVPR 2022, eq. 1)."""
    return _ripu("ripu", F.ripu, radius, eps, region_type, selection_rule)


def ripu_diverse(
    radius: int = 1, eps: float = 0.0, region_type: Region = None, selection_rule: Rule = None
) -> Strategy:
    """RIPU's score, its squares spread by k-centre in the network's features: mixed, uncertain, and unlike each other.

    Of the best squares, ten times as many as are wanted, each query is the one farthest from all squares of the image
    that were queried before (eq. 1 of Xie et al., CVPR 2022, with alg. 1 of Sener & Savarese, ICLR 2018).
    """
    return _ripu("ripu_diverse", F.ripu, radius, eps, region_type, selection_rule or KCentre())


def ripu_point(radius: int = 32, eps: float = 0.0, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """RIPU, pixel-based annotation: impurity of the square x entropy of the pixel, one pixel a query."""
    require_integer("ripu_point", "radius", radius)
    region_type = region_type or Pixel(exclusion=radius)
    return _ripu("ripu_point", F.ripu_point, radius, eps, region_type, selection_rule, POINTS)


def pixelpick(share: float = 0.05, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """Single pixels at random among the ``share`` with the smallest margin (Shin et al., ICCV workshop 2021)."""
    require_number("pixelpick", "share", share, above=True, most=1)
    rule, budget = selection_rule or TopRandom(share), Budget(clicks=100, rounds=10)
    return Scored("pixelpick", lambda inputs: F.margin(inputs.logits), region_type or Pixel(), rule, budget=budget)


def bald(radius: int = 1, samples: int = 10, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """Mutual information of prediction and network under MC dropout (Houlsby et al., 2011; Gal et al., ICML 2017)."""

    def score(inputs: ScoreInputs) -> Tensor:
        return F.bald(strategy.needed(inputs.samples, "samples in the inputs"))

    region_type = region_type or _square("bald", radius)
    strategy = Scored("bald", score, region_type, selection_rule, ["samples"], REGIONS, samples)
    return strategy


def halo(radius: int = 1, curvature: float = 1.0, region_type: Region = None, selection_rule: Rule = None) -> Strategy:
    """Hyperbolic radius x uncertainty, each scaled to 0..1 over the image (HALO, Franco et al., ICML 2024).

    The authors' network learns its features in the Poincaré ball. Features of an ordinary network are taken as
    tangent vectors at the ball's origin: the radius is twice their norm, up to a limit that ``curvature`` sets.
    It is computed at the features' own stride and resized.
    """
    require_integer("halo", "radius", radius)
    require_number("halo", "curvature", curvature, above=True)

    def score(inputs: ScoreInputs) -> Tensor:
        features = strategy.needed(inputs.features, "features in the inputs")
        depth = F.poincare_radius(features, curvature)[:, None]
        depth = torch.nn.functional.interpolate(depth, inputs.shape, mode="bilinear", align_corners=True)[:, 0]
        return _unit_range(depth) * _unit_range(F.region_uncertainty(inputs.logits, radius))

    region_type = region_type or Square(radius)
    strategy = Scored("halo", score, region_type, selection_rule, ["features"], Budget(ratio=0.05))
    return strategy


def random_score(inputs: ScoreInputs) -> Tensor:
    """Uniform noise ``(B, H, W)`` that is the same on every device and for every batch split.

    >>> random_score(ScoreInputs(torch.rand(1, 19, 1, 3), ["town/1"], round=2, seed=0))
    tensor([[[0.5001, 0.3964, 0.8664]]])
    """
    maps = []
    for image_id in inputs.image_ids:
        generator = torch.Generator().manual_seed(derive_seed(inputs.seed, "random", inputs.round, image_id))
        maps.append(torch.rand(inputs.shape, generator=generator))
    return torch.stack(maps).to(inputs.logits.device)


def _ripu(
    name: str,
    function: Callable[..., Tensor],
    radius: int,
    eps: float,
    region: Region,
    rule: Rule,
    budget: Budget = REGIONS,
) -> Strategy:
    require_integer(name, "radius", radius)
    require_number(name, "eps", eps)
    score = partial(function, radius=radius, eps=eps)
    return Scored(name, lambda inputs: score(inputs.logits), region or Square(radius), rule, budget=budget)


def _square(owner: str, radius: int) -> Square:
    """A square whose radius is an argument of the strategy ``owner``."""
    require_integer(owner, "radius", radius)
    return Square(radius)


def _unit_range(maps: Tensor) -> Tensor:
    """Each map of ``(B, H, W)`` scaled to 0..1; a constant map becomes 0.5, so that a product keeps its order."""
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    span = high - low
    # The last digits of a constant map differ by rounding and must not be scaled up.
    return torch.where(span > 1e-5 * high.abs(), (maps - low) / span, 0.5)
