"""Checks of a plan before any training: do strategy, geometry and budget go together, and do the images hold them."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_warn

from ripu_lightning.acquisition import Budget, ScoreInputs, Strategy
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError

Size = tuple[int, int]


def check_data(strategy: Strategy, budget: Budget, datamodule: ActiveDataModule) -> None:
    """:func:`check_plan` for the target's images, and whether all is there that the strategy reads besides.

    Raises:
        UserError: naming the key or the file.
    """
    target, source = datamodule.target, datamodule.source
    sizes = [target.size(index) for index in range(len(target))]
    check_plan(strategy, budget, sizes, len(datamodule.classes.names))
    sources = source.ids if source is not None and "regions" in strategy.needs else []
    strategy.geometry.require([*target.ids, *sources])
    if source is None and "source_statistics" in strategy.needs:
        raise UserError(f"data.source: null, but strategy {strategy.name} learns from the source; choose another one")


def check_plan(strategy: Strategy, budget: Budget, sizes: Sequence[Size], classes: int) -> None:
    """Refuse what can not be: a budget of another kind than the picks, a radius or an amount that images do not hold.

    A budget that the exclusion keeps from being spent is warned about only: selection stops when nothing is available.

    Args:
        strategy: what to ask.
        budget: how much.
        sizes: ``(H, W)`` of all images of the pool.
        classes: number of classes.

    Raises:
        UserError: naming the key.
    """
    _check_units(strategy, budget, len(sizes))
    for size in sorted(set(sizes)):
        strategy.geometry.check(*size)
        _rehearse(strategy, size, classes)
    areas = {size: strategy.geometry.area(*size) for size in set(sizes)}
    if budget.per == "pool":
        _check_amount(budget, sum(height * width for height, width in sizes), next(iter(areas.values())), "the pool")
        return
    for (height, width), area in sorted(areas.items()):
        _check_amount(budget, height * width, area, f"an image of {height}x{width}")
        if area is not None:
            _warn_of_exclusion(strategy, budget, height, width, area)


def _check_units(strategy: Strategy, budget: Budget, images: int) -> None:
    kind = strategy.geometry.name
    if kind == "image" and budget.per == "image":
        raise UserError(
            f"budget.per: strategy {strategy.name} asks whole images, and an image has only itself to spend on; "
            "use budget=images or budget.per=pool"
        )
    if budget.unit == "images" and kind != "image":
        raise UserError(
            f"budget.images: counts whole images, but strategy {strategy.name} asks {kind}s; add geometry=image"
        )
    if budget.unit == "regions" and kind not in ("square", "superpixel"):
        raise UserError(f"budget.regions: counts regions, but strategy {strategy.name} asks {kind}s; use budget=clicks")
    unit = budget.unit or ""
    if kind == "image" and not budget.counts_pixels and getattr(budget, unit) > images:
        raise UserError(f"budget.{unit}: {getattr(budget, unit)} images, but the pool has {images}")


def _check_amount(budget: Budget, pixels: int, area: int | None, where: str) -> None:
    amounts = [budget.amount(number + 1, pixels) for number in range(budget.rounds)]
    if budget.counts_pixels and sum(amounts) > pixels * (1 + 1e-9):
        raise UserError(f"budget.{budget.unit}: {sum(amounts):.0f} pixels are more than {where} holds")
    picks = sum(math.ceil(amount / (area or 1)) if budget.counts_pixels else int(amount) for amount in amounts)
    if area is not None and (picks - budget.rounds) * area >= pixels:
        raise UserError(f"budget.{budget.unit}: {picks} picks of {area} pixels are more than {where} holds")


def _warn_of_exclusion(strategy: Strategy, budget: Budget, height: int, width: int, area: int) -> None:
    amounts = [budget.amount(number + 1, height * width) for number in range(budget.rounds)]
    picks = sum(math.ceil(amount / (area if budget.counts_pixels else 1)) for amount in amounts)
    spacing = strategy.geometry.exclusion + 1
    most = math.ceil(height / spacing) * math.ceil(width / spacing)
    if picks > most:
        rank_zero_warn(
            f"budget: {picks} picks an image of {height}x{width}, but with an exclusion of "
            f"{strategy.geometry.exclusion} pixels at most {most} fit; the rest will not be spent "
            "(a smaller radius leaves more room)"
        )


def _rehearse(strategy: Strategy, size: Size, classes: int) -> None:
    """A dry run on noise, of a copy: whatever the strategy computes must be possible on images of this size."""
    trial, inputs = copy.deepcopy(strategy), _noise(size, classes)
    height, width = size
    try:
        summaries = [trial.summarize(inputs)] * 2 if trial.needs & {"source_statistics", "pool_statistics"} else []
        if summaries:
            trial.fit(summaries, summaries, seed=0)
        scores = trial.score(inputs)
    except ValueError as error:
        raise UserError(f"strategy {strategy.name} on images of {height}x{width}: {error}") from error
    if tuple(scores.shape) != (1, height, width):
        raise UserError(f"strategy {strategy.name}: expected scores (1, {height}, {width}), got {tuple(scores.shape)}")


def _noise(size: Size, classes: int) -> ScoreInputs:
    generator = np.random.default_rng(0)
    coarse = max(size[0] // 8, 1), max(size[1] // 8, 1)
    logits = torch.from_numpy(generator.normal(size=(1, classes, *size))).float()
    tiles = torch.arange(size[0])[:, None] * 4 // size[0] * 4 + torch.arange(size[1]) * 4 // size[1]
    return ScoreInputs(
        logits=logits,
        image_ids=["check"],
        round=1,
        seed=0,
        features=torch.from_numpy(generator.normal(size=(1, 8, *coarse))).float(),
        samples=[logits, logits.flip(1)],
        regions=tiles[None],
    )
