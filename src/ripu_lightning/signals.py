"""The signals by which a run is asked to end, and processes that start without being ended by them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""From the keyboard; from a system or a cluster that needs the machine; from a cluster whose time limit comes near.
A run that was asked to end ends with 128 + the signal's number."""


@contextmanager
def held_back() -> Iterator[None]:
    """Hold :data:`SIGNALS` back from this thread; a process that is started in the block never gets them.

    Until :func:`let_through` is called in it: a terminal or a system sends them to all processes of a run, also to one
    that cannot yet know what to do about them and would end the run with it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Let this thread get :data:`SIGNALS` again, those that came meanwhile first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
