"""One small training run for all tests of the report."""

import pytest
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from tiny_run import TinyRun, train_tiny_run


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """Trained once; tests read it and change nothing."""
    import wandb

    folder = tmp_path_factory.mktemp("tiny_run")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "WANDB_MODE": "offline",
            "WANDB_SILENT": "true",
            "RIPU_CACHE": str(folder / "cache"),
        }.items():
            patch.setenv(name, value)
        loggers = [
            TensorBoardLogger(folder, name="tensorboard", version=""),
            WandbLogger(project="test", save_dir=folder, offline=True),
        ]
        run = train_tiny_run(folder, loggers)
        wandb.finish()
    return run
