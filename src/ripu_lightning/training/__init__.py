"""Training: the LightningModule, the active-learning loop, and the stages between rounds."""

from typing import TYPE_CHECKING

from ripu_lightning.lazy import lazy_names

if TYPE_CHECKING:
    from ripu_lightning.training.active_pool import ActivePool
    from ripu_lightning.training.checkpoint_io import AtomicCheckpointIO
    from ripu_lightning.training.history import RoundRecord
    from ripu_lightning.training.loop import ActiveLearningLoop
    from ripu_lightning.training.module import SegmentationModule
    from ripu_lightning.training.optimization import constant_rate, cosine_decay, polynomial_decay
    from ripu_lightning.training.run_checkpoint import Interrupted, RunCheckpoint
    from ripu_lightning.training.schedule import Schedule

_HOMES = {
    "ActiveLearningLoop": "loop",
    "ActivePool": "active_pool",
    "AtomicCheckpointIO": "checkpoint_io",
    "Interrupted": "run_checkpoint",
    "RoundRecord": "history",
    "RunCheckpoint": "run_checkpoint",
    "Schedule": "schedule",
    "SegmentationModule": "module",
    "constant_rate": "optimization",
    "cosine_decay": "optimization",
    "polynomial_decay": "optimization",
}
__getattr__, __dir__ = lazy_names(__name__, _HOMES)

__all__ = [
    "ActiveLearningLoop",
    "ActivePool",
    "AtomicCheckpointIO",
    "Interrupted",
    "RoundRecord",
    "RunCheckpoint",
    "Schedule",
    "SegmentationModule",
    "constant_rate",
    "cosine_decay",
    "polynomial_decay",
]
