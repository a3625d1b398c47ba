"""One small training run for all tests of the report."""

import pytest
from tiny_run import TinyRun, train_tiny_run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """Trained once; tests read it and change nothing."""
    folder = tmp_path_factory.mktemp("tiny_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RIPU_CACHE", str(folder / "cache"))
        return train_tiny_run(folder)
