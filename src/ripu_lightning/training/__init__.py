"""Training: the LightningModule, the active loop, and the stages between rounds."""

from ripu_lightning.training.history import RoundRecord
from ripu_lightning.training.loop import ActiveLearningLoop
from ripu_lightning.training.module import SegmentationModule
from ripu_lightning.training.stages import Stages

__all__ = ["ActiveLearningLoop", "RoundRecord", "SegmentationModule", "Stages"]
