"""Annotation: queries in, answers out."""

from ripu_lightning.annotation.annotators import Annotator, GroundTruth, Query

__all__ = ["Annotator", "GroundTruth", "Query"]
