"""Annotation: queries in, answers out."""

from ripu_lightning.annotation.annotators import Annotator, GroundTruth, Query, Waiting
from ripu_lightning.annotation.files import FileAnnotator

__all__ = ["Annotator", "FileAnnotator", "GroundTruth", "Query", "Waiting"]
