"""The registry: strategies by name, the built-in ones and those of installed packages."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ripu_lightning.acquisition import strategies
from ripu_lightning.acquisition.avoid_void import AvoidVoid
from ripu_lightning.acquisition.budget import Budget
from ripu_lightning.acquisition.core_set import CoreSet
from ripu_lightning.acquisition.d2ada import D2ADA
from ripu_lightning.acquisition.mada import MADA
from ripu_lightning.acquisition.mulactseg import MulActSeg
from ripu_lightning.acquisition.strategy import Strategy
from ripu_lightning.errors import InvalidArgument, UserError, suggest

GROUP = "ripu_lightning.acquisition"
"""Entry-point group: a package that names a factory here adds a strategy by being installed."""

_FACTORIES: dict[str, Callable[..., Strategy]] = {
    "bald": strategies.bald,
    "core_set": CoreSet,
    "d2ada": D2ADA,
    "entropy": strategies.entropy,
    "halo": strategies.halo,
    "impurity": strategies.impurity,
    "least_confidence": strategies.least_confidence,
    "mada": MADA,
    "margin": strategies.margin,
    "mulactseg": MulActSeg,
    "pixelpick": strategies.pixelpick,
    "random": strategies.random,
    "ripu": strategies.ripu,
    "ripu_diverse": strategies.ripu_diverse,
    "ripu_point": strategies.ripu_point,
    "uncertainty": strategies.uncertainty,
}


def register_strategy(name: str, factory: Callable[..., Strategy]) -> None:
    """Make ``get_strategy(name, **options)`` call ``factory(**options)``.

    Raises:
        InvalidArgument: the name is taken.
    """
    if name in _FACTORIES:
        raise InvalidArgument("register_strategy", "name", f"{name!r} is already registered; choose another name")
    _FACTORIES[name] = factory


def get_strategy(name: str, avoid_void: bool = False, **options: Any) -> Strategy:
    """The strategy of that name, built with its options (``radius=...``, ``region_type=...``, ``selection_rule=...``).

    Args:
        name: one of :func:`list_strategies`.
        avoid_void: lower its score where earlier queries were void, see :class:`AvoidVoid`.
        options: arguments of the strategy.

    Raises:
        UserError: no such strategy (with near matches), an option that it lacks, a package that fails to load or
            returns no strategy, or a name that two packages claim.

    >>> get_strategy("ripu", radius=2).region_type.exclusion
    4
    """
    factory = _factory(name)
    try:
        strategy = factory(**options)
    except TypeError as error:
        raise UserError(f"strategy {name!r}: {error}") from error
    if not isinstance(strategy, Strategy):
        raise UserError(f"strategy {name!r}: its factory returned a {type(strategy).__name__}, expected a Strategy")
    return AvoidVoid(strategy) if avoid_void else strategy


def list_strategies() -> list[str]:
    """Sorted names of all strategies: built-in, registered and added by installed packages."""
    return sorted({*_FACTORIES, *(point.name for point in entry_points(group=GROUP))})


def published_budget(strategy: str, rounds: int | None = None) -> Budget:
    """The budget that a strategy was published with, split into ``rounds`` unless that is None.

    Raises:
        UserError: no such strategy, or one without a published budget.

    >>> published_budget("ripu_point", rounds=4) == Budget(clicks=40, rounds=4)
    True
    """
    budget = get_strategy(strategy).budget
    if budget is None:
        problem = f"{strategy!r} has no published budget; give a ratio, pixels, clicks, regions or images"
        raise InvalidArgument("published_budget", "strategy", problem)
    return budget if rounds is None else replace(budget, rounds=rounds)


def _factory(name: str) -> Callable[..., Strategy]:
    points = list(entry_points(group=GROUP, name=name))
    claims = [*(["ripu_lightning or register_strategy"] if name in _FACTORIES else []), *map(_package, points)]
    if not claims:
        raise InvalidArgument("get_strategy", "name", f"{name!r} is unknown; {suggest(name, list_strategies())}")
    if len(claims) > 1:
        raise UserError(f"strategy {name!r}: added by {' and '.join(claims)}; uninstall or rename one of them")
    return _loaded(points[0]) if points else _FACTORIES[name]


def _loaded(point: EntryPoint) -> Callable[..., Strategy]:
    try:
        factory: Callable[..., Strategy] = point.load()
    except Exception as error:  # the import of a foreign module can raise anything
        raise UserError(f"strategy {point.name!r} of {_package(point)} cannot be loaded: {error}") from error
    return factory


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name}" if point.dist else point.value
