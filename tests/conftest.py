"""Shared fixtures of the test suite."""

import functools
import gc
import inspect
import multiprocessing
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType

import pytest
from hypothesis import settings

import forked

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: test files run side by side, one a core
QUICK = 20
"""Examples that a property test draws at most, unless ``HYPOTHESIS_PROFILE=thorough``: then as many as it says."""
RUNS = {"cli", "experiment", "report", "training"}
"""Folders whose tests mostly run commands or train networks."""
STARTERS = {"Popen", "run", "get_context"}
TESTS = str(Path(__file__).parent)
SETTINGS = "_hypothesis_internal_use_settings"
SERVER = pytest.StashKey[forked.Server]()
# No test is timed: the machine may be busy.
settings.register_profile("thorough", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=QUICK)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.load_profile(PROFILE)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.stash[SERVER] = forked.Server()


def starts_processes(item: pytest.Function) -> bool:
    """Whether a test, or a fixture of it, or a function of the tests that these call, starts processes."""
    fixtures = [each.func for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
    functions = [getattr(each, "hypothesis", each) for each in (inspect.unwrap(item.function), *fixtures)]
    return any(_starts(each) for each in functions if isinstance(each, FunctionType))


def _starts(function: FunctionType) -> bool:
    seen, waiting = set(), [function]
    while waiting:
        each = waiting.pop()
        if each in seen or not each.__code__.co_filename.startswith(TESTS):
            continue
        seen.add(each)
        names, used = _uses(each)
        if names & STARTERS and any(part in (subprocess, multiprocessing, forked) for part in used):
            return True
        waiting += [part for part in used if isinstance(part, FunctionType)]
    return False


@functools.cache
def _uses(function: FunctionType) -> tuple[set[str], list[object]]:
    """The names that a function and the functions within it use, and the objects of its module among them."""
    codes = [function.__code__]
    for code in codes:  # grows
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
    names = {name for code in codes for name in code.co_names}
    return names, [function.__globals__[name] for name in names if name in function.__globals__]


def pytest_unconfigure(config: pytest.Config) -> None:
    if server := config.stash.get(SERVER, None):
        server.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests, and have property tests draw fewer examples than they say in the quick profile."""
    for item in items:
        test = getattr(item, "obj", None)
        if isinstance(item, pytest.Function) and starts_processes(item):
            item.add_marker("process")
        if item.path.parent.name in RUNS:
            item.add_marker("run")
        if not getattr(test, "is_hypothesis_test", False):
            continue
        item.add_marker("fuzz")
        said = getattr(test, SETTINGS, None)
        if PROFILE == "quick" and said is not None and said.max_examples > QUICK:
            setattr(getattr(test, "__func__", test), SETTINGS, settings(said, max_examples=QUICK))
    # Files that start processes take longest: they go first, so that no worker is left with one at the end.
    long = {item.path for item in items if item.get_closest_marker("process")}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """Garbage collections leave out what is imported by now: a million objects, which stay to the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; the processes that tests start inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIPU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _cache_of_the_test(_own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nor that of another test: a start that one has trained would spare the other its first stage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIPU_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
