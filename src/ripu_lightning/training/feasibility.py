"""Checks before any training: can the strategy query this pool, and does the pool hold the budget."""

from ripu_lightning.acquisition import Budget, Strategy
from ripu_lightning.acquisition.feasibility import check_budget
from ripu_lightning.errors import UserError
from ripu_lightning.training.active_pool import ActivePool


def check_pool(strategy: Strategy, budget: Budget, pool: ActivePool) -> None:
    """Refuse a budget that the pool does not hold, and a pool without the data that the strategy requires.

    Raises:
        UserError: naming the argument or the file.
    """
    if not budget.rounds:
        return
    check_budget(strategy, budget, list(pool.image_sizes.values()), len(pool.class_names))
    source = getattr(pool, "source", None)
    has_source = hasattr(pool, "source_dataloader") and (source is not None or not hasattr(pool, "source"))
    if "source_statistics" in strategy.requires and not has_source:
        raise UserError(
            f"strategy {strategy.name} learns from the source, but {type(pool).__name__} has none; "
            "choose another strategy"
        )
    source_ids = source.ids if source is not None and "regions" in strategy.requires else []
    strategy.region_type.require([*pool.image_sizes, *source_ids])
