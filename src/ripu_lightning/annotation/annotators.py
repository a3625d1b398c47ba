"""Annotators: whoever answers a query. The target's truth is opened here and in evaluation, nowhere else."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.labels import Answers
from ripu_lightning.labels.painting import squares


@dataclass(frozen=True)
class Query:
    """The squares of one image that are asked in one round, in order of picking.

    Attributes:
        index: position of the image in the target data set.
        image_id: its id.
        centres: ``(n, 2)`` int64, (row, column).
        scores: ``(n,)`` float32.
        radius: each square's radius; squares are clipped to the image.
    """

    index: int
    image_id: str
    centres: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    radius: int


class Annotator(Protocol):
    """Answers queries; ``name`` is written into the label store."""

    name: str

    def answer(self, query: Query) -> Answers:
        """Class indices for every asked pixel, 255 where the annotator can not say."""


class GroundTruth:
    """The oracle: answers from the data set's own labels; ignored pixels stay void (255)."""

    name = "ground_truth"

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset

    def answer(self, query: Query) -> Answers:
        """See :class:`Annotator`."""
        truth = self._dataset.label(query.index)
        boxes = squares(query.centres, query.radius, *truth.shape).astype(np.int32)
        patches = [truth[top : top + h, left : left + w].reshape(-1) for top, left, h, w in boxes.tolist()]
        return Answers(
            image_id=query.image_id,
            centres=query.centres.astype(np.int32),
            boxes=boxes,
            values=np.concatenate([np.empty(0, dtype=np.uint8), *patches]),
            scores=query.scores,
        )
