"""Checks before any training: strategy, region type and budget must agree, and the images must be large enough."""

import copy
import math
import warnings
from collections.abc import Sequence

import torch

from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.score_inputs import ScoreInputs
from ripu_lightning.acquisition.spending import budget_warnings
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.errors import InvalidArgument, UserError

Size = tuple[int, int]


def check_budget(strategy: Strategy, budget: Budget, sizes: Sequence[Size], classes: int) -> None:
    """Refuse a strategy and a budget that cannot work: wrong units, or more than the images hold.

    A plan that spends much more or less than was asked for is a warning, see :func:`budget_warnings`.

    Args:
        strategy: scores and selects.
        budget: how much may be labelled.
        sizes: ``(H, W)`` of all images of the pool.
        classes: number of classes.

    Raises:
        UserError: naming the argument.
    """
    _check_unit(strategy, budget)
    for size in sorted(set(sizes)):
        strategy.region_type.check(*size)
        _rehearse(strategy, size, classes)
    check = _check_pool_budget if budget.per == "pool" else _check_image_budget
    check(strategy, budget, sizes)
    for line in budget_warnings(strategy.region_type, budget, sizes):
        warnings.warn(line, stacklevel=2)


def _check_unit(strategy: Strategy, budget: Budget) -> None:
    kind = strategy.region_type.name
    if budget.unit == "images" and kind != "image":
        problem = f"counts whole images, but strategy {strategy.name} queries {kind}s; choose the region type image"
        raise InvalidArgument("Budget", "images", problem)
    if budget.unit == "regions" and kind not in ("square", "superpixel"):
        problem = f"counts squares or superpixels, but strategy {strategy.name} queries {kind}s; use clicks instead"
        raise InvalidArgument("Budget", "regions", problem)


def _check_image_budget(strategy: Strategy, budget: Budget, sizes: Sequence[Size]) -> None:
    if strategy.region_type.name == "image":
        problem = f"must be 'pool': strategy {strategy.name} queries whole images, and each image holds one only"
        raise InvalidArgument("Budget", "per", problem)
    for height, width in sorted(set(sizes)):
        area = strategy.region_type.area(height, width)
        _check_amount(budget, height * width, area, f"an image of {height}x{width}")


def _check_pool_budget(strategy: Strategy, budget: Budget, sizes: Sequence[Size]) -> None:
    wanted = budget.images or budget.clicks or 0
    if strategy.region_type.name == "image" and wanted > len(sizes):
        problem = f"must be at most {len(sizes)}, the images of the pool, got {wanted}"
        raise InvalidArgument("Budget", budget.unit or "images", problem)
    pixels = sum(height * width for height, width in sizes)
    _check_amount(budget, pixels, strategy.region_type.area(*sizes[0]), "the pool")


def _check_amount(budget: Budget, pixels: int, area: int | None, where: str) -> None:
    """Refuse more than ``where`` holds, of so many pixels."""
    amounts = [budget.amount(number + 1, pixels) for number in range(budget.rounds)]
    if budget.counts_pixels and sum(amounts) > pixels * (1 + 1e-9):
        problem = f"asks for {sum(amounts):.0f} pixels, more than {where} holds ({pixels})"
        raise InvalidArgument("Budget", budget.unit or "", problem)
    picks = sum(math.ceil(amount / (area or 1)) if budget.counts_pixels else int(amount) for amount in amounts)
    if area is not None and (picks - budget.rounds) * area >= pixels:
        problem = f"asks for {picks} queries of {area} pixels, more than {where} holds ({pixels} pixels)"
        raise InvalidArgument("Budget", budget.unit or "", problem)


def _rehearse(strategy: Strategy, size: Size, classes: int) -> None:
    """Score noise of this size with a copy of the strategy, so that too small an image fails before training."""
    trial, inputs = copy.deepcopy(strategy), _noise(size, classes)
    height, width = size
    try:
        if trial.requires & {"source_statistics", "pool_statistics"}:
            summaries = [trial.summarize(inputs)] * 2
            trial.fit(summaries, summaries, seed=0)
        scores = trial.score(inputs)
    except InvalidArgument as error:  # of a function that the strategy calls with its own argument
        raise InvalidArgument(strategy.name, error.argument, error.problem) from error
    except ValueError as error:
        raise UserError(f"strategy {strategy.name} on images of {height}x{width}: {error}") from error
    if tuple(scores.shape) != (1, height, width):
        raise UserError(f"strategy {strategy.name}: expected scores (1, {height}, {width}), got {tuple(scores.shape)}")


def _noise(size: Size, classes: int) -> ScoreInputs:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((1, classes, *size), generator=generator)
    tiles = torch.arange(size[0])[:, None] * 4 // size[0] * 4 + torch.arange(size[1]) * 4 // size[1]
    features = torch.randn((1, 8, max(size[0] // 8, 1), max(size[1] // 8, 1)), generator=generator)
    samples = [logits, logits.flip(1)]
    return ScoreInputs(logits, ["check"], round=1, seed=0, features=features, samples=samples, regions=tiles[None])
