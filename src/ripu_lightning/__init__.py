"""Active learning for domain-adaptive semantic segmentation, on PyTorch Lightning.

The names below are imported when they are first used: ``import ripu_lightning`` itself loads nothing, and
``ripu_lightning.acquisition`` and ``ripu_lightning.losses`` need torch alone.
"""

from typing import TYPE_CHECKING

from ripu_lightning.lazy import lazy_names
from ripu_lightning.version import __version__ as __version__

if TYPE_CHECKING:
    from ripu_lightning.acquisition import Budget, get_strategy, list_strategies, register_strategy
    from ripu_lightning.annotation import FileAnnotator, GroundTruth
    from ripu_lightning.cli.compose import compose
    from ripu_lightning.data import ActiveDataModule, wrap_dataset
    from ripu_lightning.experiment import RunResult, run_experiment
    from ripu_lightning.labels import LabelStore
    from ripu_lightning.training import ActiveLearningLoop, RunCheckpoint, Schedule, SegmentationModule

_HOMES = {
    "ActiveDataModule": "data",
    "ActiveLearningLoop": "training",
    "Budget": "acquisition",
    "FileAnnotator": "annotation",
    "GroundTruth": "annotation",
    "LabelStore": "labels",
    "RunCheckpoint": "training",
    "RunResult": "experiment",
    "Schedule": "training",
    "SegmentationModule": "training",
    "compose": "cli.compose",
    "get_strategy": "acquisition",
    "list_strategies": "acquisition",
    "register_strategy": "acquisition",
    "run_experiment": "experiment",
    "wrap_dataset": "data",
}
"""Each public name -> the module that it comes from."""

__all__ = [
    "ActiveDataModule",
    "ActiveLearningLoop",
    "Budget",
    "FileAnnotator",
    "GroundTruth",
    "LabelStore",
    "RunCheckpoint",
    "RunResult",
    "Schedule",
    "SegmentationModule",
    "compose",
    "get_strategy",
    "list_strategies",
    "register_strategy",
    "run_experiment",
    "wrap_dataset",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
