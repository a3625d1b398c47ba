"""Training: the LightningModule, the active-learning loop, and the stages between rounds."""

from ripu_lightning.training.active_pool import ActivePool
from ripu_lightning.training.checkpoint_io import AtomicCheckpointIO
from ripu_lightning.training.history import RoundRecord
from ripu_lightning.training.loop import ActiveLearningLoop
from ripu_lightning.training.module import SegmentationModule
from ripu_lightning.training.optimization import constant_rate, cosine_decay, polynomial_decay
from ripu_lightning.training.run_checkpoint import Interrupted, RunCheckpoint
from ripu_lightning.training.schedule import Schedule

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
