"""What the commands do, as functions: train an experiment, evaluate, compare, convert. None of them uses Hydra.

``evaluate``, ``compare`` and ``convert`` are in the modules of their names. The names below are imported when they are
first used, because a command checks its config before it loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ripu_lightning.experiment.run import RunResult, run_experiment

__all__ = ["RunResult", "run_experiment"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.run"), name)
