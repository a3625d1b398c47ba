"""Connected segments against a flood fill."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ripu_lightning.connected_segments import connected_segments


def flood_fill(labels: list[list[int]]) -> list[list[int]]:
    """Areas in the order of their first pixels, each filled from there."""
    height, width, areas = len(labels), len(labels[0]), 0
    numbers = [[-1] * width for _ in labels]
    for start in ((row, column) for row in range(height) for column in range(width)):
        todo = [start] if numbers[start[0]][start[1]] < 0 else []
        areas += len(todo)
        while todo:
            row, column = todo.pop()
            inside = 0 <= row < height and 0 <= column < width
            if inside and numbers[row][column] < 0 and labels[row][column] == labels[start[0]][start[1]]:
                numbers[row][column] = areas - 1
                todo += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return numbers


@given(
    seed=st.integers(0, 10_000), height=st.integers(1, 14), width=st.integers(1, 14), classes=st.sampled_from([1, 2, 4])
)
def test_segments_are_those_of_a_flood_fill(seed: int, height: int, width: int, classes: int) -> None:
    labels = torch.randint(classes, (height, width), generator=torch.Generator().manual_seed(seed))
    found = connected_segments(labels)
    # Equal up to their numbers, which rise with the first pixels of both.
    assert found.unique(return_inverse=True)[1].tolist() == flood_fill(labels.tolist())


@pytest.mark.parametrize("turned", [False, True])
def test_a_spiral_is_one_segment(turned: bool) -> None:
    side, labels, direction = 15, torch.zeros(15, 15, dtype=torch.int64), 0
    row, column, steps = 0, 0, [side - 1, *(length for length in range(side - 1, 0, -2) for _ in (0, 1))]
    labels[0, 0] = 1
    for length in steps:
        for _ in range(length):
            row += (0, 1, 0, -1)[direction]
            column += (1, 0, -1, 0)[direction]
            labels[row, column] = 1
        direction = (direction + 1) % 4
    found = connected_segments(labels.T if turned else labels)
    assert len(found[(labels.T if turned else labels) == 1].unique()) == 1
    assert len(found.unique()) == 2
