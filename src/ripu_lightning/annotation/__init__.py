"""Annotation: queries in, answers out."""

from ripu_lightning.annotation.annotators import Annotator, AnswersPending, GroundTruth, Query
from ripu_lightning.annotation.files import FileAnnotator

__all__ = ["Annotator", "AnswersPending", "FileAnnotator", "GroundTruth", "Query"]
