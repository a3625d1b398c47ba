"""One acquisition: every rank scores its share of the pool and picks; rank 0 receives the picks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from tqdm import tqdm

from ripu_lightning.acquisition import Budget, ScoreInputs, Strategy, select
from ripu_lightning.annotation import Query
from ripu_lightning.data.datamodule import ActiveDataModule
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore
from ripu_lightning.networks.resize import resize_logits
from ripu_lightning.training.modes import evaluating


def pick_queries(
    trainer: Trainer,
    module: LightningModule,
    datamodule: ActiveDataModule,
    store: LabelStore,
    strategy: Strategy,
    budget: Budget,
    round_number: int,
    seed: int,
) -> list[Query]:
    """This rank's queries of a round. What an image is asked depends on that image alone, not on its batch or rank.

    Raises:
        UserError: the network's logits are not finite.
    """
    queries = []
    loader = datamodule.pool_dataloader()
    silent = not trainer.is_global_zero or trainer.progress_bar_callback is None
    bar = tqdm(loader, desc=f"round {round_number}: {strategy.name}", unit="batch", disable=silent)
    with evaluating(module):
        for batch in bar:
            batch = batch.to(module.device)
            with trainer.precision_plugin.forward_context():
                logits = logits_of(module(trainer.precision_plugin.convert_input(batch.image)))
            for position, (index, image_id, size) in enumerate(zip(batch.indices, batch.ids, batch.sizes, strict=True)):
                full = resize_logits(logits[position : position + 1], size)
                _require_finite(full, image_id, trainer.global_step)
                scores = strategy.score(ScoreInputs(full, [image_id], round_number, seed))[0]
                available = torch.from_numpy(store.available(image_id)).to(scores.device)
                count = budget.picks(round_number, full.shape[2], full.shape[3], strategy.radius)
                picked = select(scores, available, count, strategy.radius, strategy.exclusion)
                centres, values = picked.centres.cpu().numpy(), picked.scores.float().cpu().numpy()
                queries.append(Query(index, image_id, centres, values, strategy.radius))
    return queries


def gather_queries(queries: list[Query], trainer: Trainer) -> list[Query]:
    """All ranks' queries on rank 0, in the order of the pool whatever the world size; elsewhere nothing."""
    if trainer.world_size == 1:
        return sorted(queries, key=lambda query: query.index)
    gathered: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    dist.gather_object(queries, gathered)
    return sorted((query for part in gathered or [] for query in part), key=lambda query: query.index)


def logits_of(output: Any) -> Tensor:
    """The logits of any module: the output itself, or its attribute ``logits``."""
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise TypeError(f"expected forward to give a tensor or an output with logits, got {type(output).__name__}")
    return logits


def check_plan(strategy: Strategy, budget: Budget, sizes: Sequence[tuple[int, int]], classes: int) -> None:
    """Refuse, before any training, a budget or a radius that the images can not hold.

    A budget that the exclusion keeps from being spent is warned about only: selection stops when nothing is available.

    Raises:
        UserError: naming the key.
    """
    side = 2 * strategy.radius + 1
    for height, width in sorted(set(sizes)):
        if side > min(height, width):
            raise UserError(
                f"strategy.radius: a square of {side} pixels does not fit into images of {height}x{width}; "
                f"at most {(min(height, width) - 1) // 2}"
            )
        _check_scores(strategy, height, width, classes)
        picks = sum(budget.picks(number + 1, height, width, strategy.radius) for number in range(budget.rounds))
        if (picks - budget.rounds) * side**2 >= height * width:
            raise UserError(
                f"budget: {picks} picks of {side}x{side} pixels are more than an image of {height}x{width} holds"
            )
        spacing = strategy.exclusion + 1
        most = math.ceil(height / spacing) * math.ceil(width / spacing)
        if picks > most:
            rank_zero_warn(
                f"budget: {picks} picks an image of {height}x{width}, but with an exclusion of "
                f"{strategy.exclusion} pixels at most {most} fit; the rest will not be spent "
                "(a smaller strategy.radius leaves more room)"
            )


def _check_scores(strategy: Strategy, height: int, width: int, classes: int) -> None:
    """A dry run on noise: whatever the strategy computes must be possible on images of this size."""
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(1, classes, height, width))).float()
    try:
        scores = strategy.score(ScoreInputs(noise, ["check"], 1, 0))
    except ValueError as error:
        raise UserError(f"strategy {strategy.name} on images of {height}x{width}: {error}") from error
    if tuple(scores.shape) != (1, height, width):
        raise UserError(f"strategy {strategy.name}: expected scores (1, {height}, {width}), got {tuple(scores.shape)}")


def _require_finite(logits: Tensor, image_id: str, step: int) -> None:
    if not bool(torch.isfinite(logits).all()):
        raise UserError(
            f"image {image_id}: the network's logits are NaN or infinite after step {step}; "
            "nothing was bought with them: lower optimizer.lr or use a wider trainer.precision"
        )
