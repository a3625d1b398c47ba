"""Annotators answer queries. The target's truth is opened here and in evaluation, nowhere else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ripu_lightning.data.dataset import SegmentationDataset, UInt8Array
from ripu_lightning.errors import InvalidArgument, UserError
from ripu_lightning.labels import NOT_QUERIED, Answers


@dataclass(frozen=True)
class Query:
    """The regions of one image that a round queries, by descending score.

    Attributes:
        index: position of the image in the target data set.
        image_id: its id.
        centres: ``(n, 2)`` int32, (row, column).
        boxes: ``(n, 4)`` int32, (top, left, height, width) of each region, inside the image.
        inside: ``(sum of height*width,)`` bool, which pixels of the boxes are queried, box after box and row by row;
            None where all are.
        scores: ``(n,)`` float32.
        rejected: how many earlier answers to these regions were rejected. It grows whenever one is: an annotator that
            keeps answers must not give those again.
    """

    index: int
    image_id: str
    centres: npt.NDArray[np.int32]
    boxes: npt.NDArray[np.int32]
    inside: npt.NDArray[np.bool_] | None
    scores: npt.NDArray[np.float32]
    rejected: int = 0


class AnswersPending(UserError):
    """The answers are not there yet; the line says where they are expected."""

    exit_code = 3


class Annotator(Protocol):
    """Answers the queries of a round; an annotator that needs time gets them again when the run is started again.

    It may have ``check(image_sizes, class_names)``, which is called before any training and raises UserError where it
    cannot answer for these images and classes; ``held(round_number, queries)``, see :meth:`FileAnnotator.held`; and
    ``partial``: if it is true, the answers about an image may leave out some of its queries, or all.

    Attributes:
        name: written into the label store.
        reads_truth: whether it opens the target's labels. Only then does a run give it a data set with labels;
            otherwise nothing else in a run can open them either.
    """

    name: str
    reads_truth: bool

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """Answers to the queries, image by image: class indices, 255 = void, 254 = pixel was not queried.

        Called on rank 0 only. A round that waited comes again, query by query the same.

        Args:
            round_number: from 1.
            queries: one for each image, in the order of the pool.

        Raises:
            AnswersPending: some answers are missing; the run ends, to be started again.
        """


class ImagesById:
    """The images of an annotator's data set, found by their ids: its order need not be that of the pool.

    Args:
        owner: class that errors name.
        dataset: of the target.

    Raises:
        InvalidArgument: it is not a :class:`SegmentationDataset`.
    """

    def __init__(self, owner: str, dataset: SegmentationDataset) -> None:
        if not isinstance(dataset, SegmentationDataset):
            kind = type(dataset).__name__
            problem = f"must be a SegmentationDataset, got {kind}; wrap it: wrap_dataset(dataset, class_names, ids)"
            raise InvalidArgument(owner, "dataset", problem)
        self.owner, self.dataset = owner, dataset
        self._positions = {image_id: position for position, image_id in enumerate(dataset.ids)}

    def image(self, image_id: str) -> UInt8Array:
        """RGB image ``(H, W, 3)`` uint8; as the other methods raises InvalidArgument for an id that is not there."""
        return self.dataset.image(self._index(image_id))

    def label(self, image_id: str) -> UInt8Array:
        """Truth ``(H, W)`` uint8."""
        return self.dataset.label(self._index(image_id))

    def size(self, image_id: str) -> tuple[int, int]:
        """``(H, W)``."""
        return self.dataset.size(self._index(image_id))

    def _index(self, image_id: str) -> int:
        if image_id not in self._positions:
            raise InvalidArgument(self.owner, "dataset", f"has no image {image_id!r}; give it the ids of the pool")
        return self._positions[image_id]

    def check(self, image_sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> None:
        """Raise InvalidArgument unless each image of the pool is here, in its size, and the classes are the same."""
        for image_id, size in image_sizes.items():
            found = tuple(self.size(image_id))
            if found != tuple(size):
                problem = f"has image {image_id!r} with (H, W) {found}, but image_sizes says {tuple(size)}"
                raise InvalidArgument(self.owner, "dataset", problem)
        ours = tuple(self.dataset.classes.names)
        if ours != tuple(class_names):
            problem = f"has the classes {', '.join(ours)}, but the datamodule has {', '.join(class_names)}"
            raise InvalidArgument(self.owner, "dataset", problem)


class GroundTruth:
    """The oracle: answers from the data set's own labels; ignored pixels are void (255).

    Args:
        dataset: the target's training images, with labels; images are found by their ids, in any order.

    Raises:
        InvalidArgument: it is not a :class:`SegmentationDataset`.
    """

    name = "ground_truth"
    reads_truth = True

    def __init__(self, dataset: SegmentationDataset) -> None:
        self._images = ImagesById("GroundTruth", dataset)

    def check(self, image_sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> None:
        """See :class:`Annotator`."""
        if not self._images.dataset.has_labels:
            raise InvalidArgument("GroundTruth", "dataset", "has no labels to answer from; use FileAnnotator")
        self._images.check(image_sizes, class_names)

    def annotate(self, round_number: int, queries: Sequence[Query]) -> Iterable[Answers]:
        """See :class:`Annotator`."""
        return map(self.answer, queries)

    def answer(self, query: Query) -> Answers:
        """The truth of one image at the queried pixels."""
        truth = self._images.label(query.image_id)
        patches = [truth[top : top + h, left : left + w].reshape(-1) for top, left, h, w in query.boxes.tolist()]
        values = np.concatenate([np.empty(0, dtype=np.uint8), *patches])
        if query.inside is not None:
            values[~query.inside] = NOT_QUERIED
        return Answers(query.image_id, query.centres, query.boxes, values, query.scores)
