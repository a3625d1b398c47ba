"""Can the strategy query this pool, does the pool hold the budget, and how do the rounds depart from it."""

from ripu_lightning.acquisition import Budget, Strategy, budget_warnings, check_budget
from ripu_lightning.acquisition.spending import unspent
from ripu_lightning.errors import UserError
from ripu_lightning.labels import LabelStore, Round
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


def budget_departures(strategy: Strategy, budget: Budget, store: LabelStore) -> list[str]:
    """How a run departs from its budget, by its plan and in the rounds of its store; one line each."""
    planned = budget_warnings(strategy.region_type, budget, _sizes(store))
    return [*planned, *(line for made in store.rounds if (line := unspent_in(made, strategy, budget, store)))]


def unspent_in(made: Round, strategy: Strategy, budget: Budget, store: LabelStore) -> str | None:
    """The line for a round that could not spend its amount; None for all others."""
    if made.number > budget.rounds:
        return None
    return unspent(strategy.region_type, budget, _sizes(store), made.number, made.queries, made.pixels)


def _sizes(store: LabelStore) -> list[tuple[int, int]]:
    return list((store.images or {}).values())
