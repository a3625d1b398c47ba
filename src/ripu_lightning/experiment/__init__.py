"""What the commands do, as functions: train an experiment, evaluate, compare, convert. None of them uses Hydra.

``evaluate``, ``compare`` and ``convert`` are in the modules of their names. The names below are imported when they are
first used, because a command checks its config before it loads torch.
"""

from typing import TYPE_CHECKING

from ripu_lightning.lazy import lazy_names

if TYPE_CHECKING:
    from ripu_lightning.experiment.run import RunResult, run_experiment

__all__ = ["RunResult", "run_experiment"]
__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "run"))
