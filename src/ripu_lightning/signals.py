"""The signals by which a run is asked to end, and processes that start without being ended by them."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""From the keyboard; from a system or a cluster that needs the machine; from a cluster whose time limit comes near.
A run that was asked to end ends with 128 + the signal's number."""


@contextmanager
def held_back() -> Iterator[None]:
    """Hold :data:`SIGNALS` back from this thread, and from a process started in the block until it lets them through.

    A terminal or a system sends them to all processes of a run, also to one that has only just been started: it cannot
    know yet what to do about them, would end, and the run with it. See :func:`let_through`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_through() -> None:
    """Let this thread get :data:`SIGNALS` again, those that came meanwhile first."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
