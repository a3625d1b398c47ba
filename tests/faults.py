"""The fault injector of the tests and of ``scripts/stress.py``: something happens at the n-th call of a function."""

import functools
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any


def trap(place: str, call: int, act: Callable[[], object], when: str = "before", workers: bool = False) -> None:
    """Have ``act`` happen at a call of a function or method.

    Args:
        place: of the function, ``"module:Class.method"``.
        call: which call, from 1.
        act: what happens.
        when: "before" or "after" the call.
        workers: also in the processes that this one forks, each of which counts its own calls.
    """
    module, _, path = place.partition(":")
    *parents, name = path.split(".")
    owner: Any = functools.reduce(getattr, parents, import_module(module))
    real, calls, process = getattr(owner, name), itertools.count(1), os.getpid()

    @functools.wraps(real)
    def trapped(*arguments: Any, **options: Any) -> Any:
        due = (workers or os.getpid() == process) and next(calls) == call
        if due and when == "before":
            act()
        result = real(*arguments, **options)
        if due and when == "after":
            act()
        return result

    setattr(owner, name, trapped)


def die() -> None:
    """End as if by ``kill -9``."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_after(seconds: float) -> None:
    """End so many seconds from now, whatever goes on then."""
    threading.Thread(target=lambda: (time.sleep(seconds), die()), daemon=True).start()
