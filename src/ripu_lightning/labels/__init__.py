"""The store of queries and answers."""

from ripu_lightning.labels.answers import NOT_ASKED, VOID, Answers
from ripu_lightning.labels.entry import Round
from ripu_lightning.labels.store import LabelStore

__all__ = ["NOT_ASKED", "VOID", "Answers", "LabelStore", "Round"]
