"""The ground-truth annotator against a pixel-by-pixel reference."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.annotation.annotators import GroundTruth, Query
from ripu_lightning.class_map import ClassMap
from ripu_lightning.data.dataset import SegmentationDataset
from ripu_lightning.labels.masks import squares


class Truth(SegmentationDataset):
    """Labels without images: an annotator looks at no image."""

    classes = ClassMap(("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))

    def __init__(self, labels: list[npt.NDArray[np.uint8]]) -> None:
        self.labels = labels
        self.ids = [f"town/{index}" for index in range(len(labels))]

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        raise AssertionError("the annotator read an image")

    def label(self, index: int) -> npt.NDArray[np.uint8]:
        return self.labels[index]

    def size(self, index: int) -> tuple[int, int]:
        height, width = self.labels[index].shape
        return height, width


def truth(seed: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).choice(np.array([0, 1, 2, 255], dtype=np.uint8), (height, width))


def query(labels: npt.NDArray[np.uint8], count: int, radius: int, seed: int, ragged: bool = False) -> Query:
    rng = np.random.default_rng(seed)
    centres = np.stack([rng.integers(0, side, count) for side in labels.shape], axis=1).reshape(count, 2)
    scores = np.sort(rng.random(count, dtype=np.float32))[::-1].copy()
    boxes = squares(centres, radius, *labels.shape).astype(np.int32)
    inside = rng.random(int((boxes[:, 2] * boxes[:, 3]).sum())) < 0.7 if ragged else None
    return Query(1, "town/1", centres.astype(np.int32), boxes, inside, scores)


@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(0, 6), st.integers(0, 5), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_answers_against_loops(height: int, width: int, count: int, radius: int, ragged: bool, seed: int) -> None:
    labels = truth(seed, height, width)
    queried = query(labels, count, radius, seed, ragged)
    answers = GroundTruth(Truth([truth(seed + 1, 11, 11), labels])).answer(queried)
    boxes, values = [], []
    for row, column in queried.centres.tolist():
        rows = [r for r in range(row - radius, row + radius + 1) if 0 <= r < height]
        columns = [c for c in range(column - radius, column + radius + 1) if 0 <= c < width]
        boxes.append([rows[0], columns[0], len(rows), len(columns)])
        values += [int(labels[r, c]) for r in rows for c in columns]
    if queried.inside is not None:
        values = [value if within else 254 for value, within in zip(values, queried.inside.tolist(), strict=True)]
    assert answers.boxes.tolist() == boxes
    assert answers.values.tolist() == values
    assert answers.centres.tolist() == queried.centres.tolist()
    np.testing.assert_array_equal(answers.scores, queried.scores)
    assert answers.image_id == "town/1"
    assert answers.void == values.count(255)
    assert answers.pixels == len(values) - values.count(254)


def test_answers_are_a_copy_of_the_truth() -> None:
    labels = truth(0, 6, 7)
    before = labels.copy()
    answers = GroundTruth(Truth([labels, labels])).answer(query(labels, 3, 1, seed=2))
    answers.values[:] = 77
    np.testing.assert_array_equal(labels, before)


def test_a_corner_by_hand() -> None:
    labels = np.array([[0, 1, 2], [255, 2, 1], [0, 0, 1]], dtype=np.uint8)
    centres, scores = np.array([[0, 0], [2, 1]], dtype=np.int32), np.array([0.9, 0.5], dtype=np.float32)
    queried = Query(0, "town/0", centres, squares(centres, 1, 3, 3).astype(np.int32), None, scores)
    answers = GroundTruth(Truth([labels])).answer(queried)
    assert answers.boxes.tolist() == [[0, 0, 2, 2], [1, 0, 2, 3]]
    assert answers.values.tolist() == [0, 1, 255, 2, 255, 2, 1, 0, 0, 1]
    assert answers.void == 2
