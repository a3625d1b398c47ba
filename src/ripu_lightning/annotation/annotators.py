"""Annotators: whoever answers a query. The target's truth is opened here and in evaluation, nowhere else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.errors import UserError
from ripu_lightning.labels import NOT_ASKED, Answers


@dataclass(frozen=True)
class Query:
    """The regions of one image that are asked in one round, in order of picking.

    Attributes:
        index: position of the image in the target data set.
        image_id: its id.
        centres: ``(n, 2)`` int32, (row, column).
        boxes: ``(n, 4)`` int32, (top, left, height, width) of each region, inside the image.
        inside: ``(sum of height*width,)`` bool, which pixels of the boxes are asked, box after box and row by row;
            None where all are.
        scores: ``(n,)`` float32.
    """

    index: int
    image_id: str
    centres: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.int32]
    inside: npt.NDArray[np.bool_] | None
    scores: npt.NDArray[np.float32]


class Waiting(UserError):
    """The answers are not there yet; the line says where they are expected, and of whom."""

    exit_code = 3


class Annotator(Protocol):
    """Answers the queries of a round; whoever needs time for that is asked once more when the run is started again.

    Attributes:
        name: written into the label store.
        reads_truth: whether it opens the target's labels; said by the class, as only then a run gives it a data set
            with labels. Where it does not, nothing else in a run can.
    """

    name: str
    reads_truth: bool

    def ask(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """Answers to the queries, image by image: class indices, 255 = can not say, 254 = pixel was not asked.

        Only rank 0 asks. A round that waited is asked again, query by query the same.

        Args:
            round_number: from 1.
            queries: one for each image, in the order of the pool.

        Raises:
            Waiting: the queries are known, but not all the answers are there; the run ends, and may be started again.
        """


class GroundTruth:
    """The oracle: answers from the data set's own labels; ignored pixels stay void (255)."""

    name = "ground_truth"
    reads_truth = True

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._dataset = dataset

    def ask(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """See :class:`Annotator`."""
        return (self.answer(query) for query in queries)

    def answer(self, query: Query) -> Answers:
        """The truth of one image at the asked pixels."""
        truth = self._dataset.label(query.index)
        patches = [truth[top : top + h, left : left + w].reshape(-1) for top, left, h, w in query.boxes.tolist()]
        values = np.concatenate([np.empty(0, dtype=np.uint8), *patches])
        if query.inside is not None:
            values[~query.inside] = NOT_ASKED
        return Answers(query.image_id, query.centres, query.boxes, values, query.scores)
