"""Connected segments of a label map."""

import torch
from torch import Tensor


def connected_segments(labels: Tensor) -> Tensor:
    """Numbers of the 4-connected areas of one label: ``(H, W)`` integers -> ``(H, W)`` int64, equal within an area.

    An area has the number of its first horizontal run, counted row by row. Runs of the rows and of the columns take the
    least number of all runs that they cross, until nothing changes: as many passes as an area has turns.

    >>> connected_segments(torch.tensor([[7, 7, 0], [0, 7, 7], [0, 0, 7]]))
    tensor([[0, 0, 1],
            [2, 0, 0],
            [2, 2, 0]])
    """
    rows, columns = _runs(labels).reshape(-1), _runs(labels.T).T.reshape(-1)
    numbers = torch.arange(int(rows[-1]) + 1, device=labels.device)
    crossing = numbers.new_empty(int(columns[-1]) + 1)
    while True:
        crossing = crossing.scatter_reduce(0, columns, numbers[rows], "amin", include_self=False)
        lower = numbers.scatter_reduce(0, rows, crossing[columns], "amin")
        if torch.equal(lower, numbers):
            return numbers[rows].reshape(labels.shape)
        numbers = lower[lower]  # a run's number is that of a run, whose own may be lower already


def _runs(labels: Tensor) -> Tensor:
    """The number of each pixel's run of equal labels in its row, ``(H, W)`` int64, counted row by row."""
    starts = torch.ones(labels.shape, dtype=torch.int64, device=labels.device)
    starts[:, 1:] = labels[:, 1:] != labels[:, :-1]
    return starts.reshape(-1).cumsum(0).reshape(labels.shape) - 1
