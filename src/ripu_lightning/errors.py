"""User errors: one line that names what is wrong (argument, key or file) and how to fix it."""

import errno
import math
from collections.abc import Iterable
from difflib import get_close_matches

DISK_FULL = {number for name in ("ENOSPC", "EDQUOT", "EFBIG") if (number := getattr(errno, name, None))}
"""Errors of the system that mean: free some space."""


class UserError(ValueError):
    """A mistake in input, configuration or environment; in Python an exception as any other.

    Only the commands print it as one line without a traceback, and exit with its code.

    Attributes:
        exit_code: the exit code of a command that ends with this error.
    """

    exit_code = 1


class InvalidArgument(UserError):
    """An argument of a class or function has a value that it does not accept.

    The command line replaces owner and argument by the config key, so ``problem`` names neither of them.

    Args:
        owner: name of the class or function.
        argument: name of the argument.
        problem: what is expected, what was given, and how to fix it.

    >>> print(InvalidArgument("Square", "radius", "must be >= 0, got -1"))
    Square: radius must be >= 0, got -1
    """

    def __init__(self, owner: str, argument: str, problem: str) -> None:
        super().__init__(f"{owner}: {argument} {problem}")
        self.owner, self.argument, self.problem = owner, argument, problem

    def __reduce__(self) -> tuple[type["InvalidArgument"], tuple[str, str, str]]:
        """Pickled by its parts: workers and ranks send it to their parent."""
        return type(self), (self.owner, self.argument, self.problem)


def require_integer(owner: str, argument: str, value: object, least: int = 0) -> None:
    """Raise :class:`InvalidArgument` unless ``value`` is a whole number of ``least`` or more.

    >>> require_integer("Square", "radius", 1)
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InvalidArgument(owner, argument, f"must be a whole number >= {least}, got {value!r}")


def require_number(
    owner: str,
    argument: str,
    value: object,
    least: float = 0.0,
    above: bool = False,
    most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raise :class:`InvalidArgument` unless ``value`` is a finite number in the range.

    Args:
        owner: see :class:`InvalidArgument`.
        argument: see :class:`InvalidArgument`.
        value: to check.
        least: smallest value.
        above: whether ``least`` itself is refused.
        most: largest value.
        below: first value that is too large.

    >>> require_number("TopRandom", "share", 0.5, above=True, most=1)
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not least <= value <= most or not value < below or (above and value == least):  # type: ignore[operator]
        upper = f" and <= {most:g}" if most < math.inf else f" and < {below:g}" if below < math.inf else ""
        raise InvalidArgument(
            owner, argument, f"must be a number {'>' if above else '>='} {least:g}{upper}, got {value!r}"
        )


def require_choice(owner: str, argument: str, value: object, choices: Iterable[object]) -> None:
    """Raise :class:`InvalidArgument` unless ``value`` is one of ``choices``.

    >>> require_choice("Budget", "per", "pool", ("image", "pool"))
    """
    known = list(choices)
    if value not in known:
        raise InvalidArgument(owner, argument, f"must be {' or '.join(map(repr, known))}, got {value!r}")


def suggest(name: str, known: Iterable[str]) -> str:
    """``"did you mean 'x'?"`` for a misspelt name, else the list of known names.

    >>> suggest("entropi", ["entropy", "random"])
    "did you mean 'entropy'?"
    >>> suggest("zzz", ["entropy", "random"])
    'known: entropy, random'
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    return "known: " + ", ".join(names)
