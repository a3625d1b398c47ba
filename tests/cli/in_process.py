"""A command inside the process of the tests, for what need not be seen from outside."""

import sys
from collections.abc import Callable

import pytest
from hydra.core.global_hydra import GlobalHydra


def call_main(main: Callable[[], None], *arguments: str) -> None:
    """Run a command's ``main`` with these arguments; what it raises passes through."""
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [main.__module__, *arguments])
        main()
