"""The label store: what was queried and what was answered, on disk."""

from ripu_lightning.labels.answers import NOT_QUERIED, VOID, Answers
from ripu_lightning.labels.round import Round
from ripu_lightning.labels.stage import QueriedLabels, Stage
from ripu_lightning.labels.store import LabelStore

__all__ = ["NOT_QUERIED", "VOID", "Answers", "LabelStore", "QueriedLabels", "Round", "Stage"]
