"""The one exception for mistakes a user can mend: a single line that names the file or key and the mend."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors of the system that mean: free some space."""


class UserError(ValueError):
    """A mistake in input, configuration or environment; the command line prints it without a traceback.

    Attributes:
        exit_code: what a command that ends with it returns.
    """

    exit_code = 1


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
