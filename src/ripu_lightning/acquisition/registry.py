"""The registry: strategies by name."""

from collections.abc import Callable
from typing import Any

from ripu_lightning.acquisition import strategies
from ripu_lightning.acquisition.strategies import Strategy
from ripu_lightning.errors import UserError, suggest

_FACTORIES: dict[str, Callable[..., Strategy]] = {}


def register_strategy(name: str, factory: Callable[..., Strategy]) -> None:
    """Make ``get_strategy(name, **options)`` call ``factory(**options)``.

    Raises:
        ValueError: the name is taken.
    """
    if name in _FACTORIES:
        raise ValueError(f"strategy {name!r} is already registered; choose another name")
    _FACTORIES[name] = factory


def get_strategy(name: str, **options: Any) -> Strategy:
    """The strategy of that name, built with its options (``radius=...``).

    Raises:
        UserError: no such strategy (with near matches), or an option it does not have.

    >>> get_strategy("ripu", radius=2).exclusion
    4
    """
    if name not in _FACTORIES:
        raise UserError(f"strategy: no strategy {name!r}; {suggest(name, _FACTORIES)}")
    try:
        strategy = _FACTORIES[name](**options)
    except TypeError as error:
        raise UserError(f"strategy {name!r}: {error}") from error
    if strategy.radius < 0 or strategy.exclusion < 0:
        raise UserError(f"strategy.radius: expected 0 or more, got {options.get('radius')}")
    return strategy


def list_strategies() -> list[str]:
    """Names of all registered strategies, sorted."""
    return sorted(_FACTORIES)


register_strategy("ripu", strategies.ripu)
register_strategy("ripu_point", strategies.ripu_point)
register_strategy("entropy", strategies.entropy)
register_strategy("random", strategies.random)
