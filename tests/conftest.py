"""Shared fixtures of the test suite."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None)  # no test is timed: the machine may be busy
settings.load_profile("suite")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: test files run side by side, one a core


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
