"""Candidates: the regions of one or many images that may be queried in a round, one row each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Candidates:
    """A row for each region that may be queried: best first in each image, images in the order of the pool.

    Args:
        images: ``(n,)`` int32, positions of the images in the pool.
        positions: ``(n,)`` int32, flat positions ``row * W + column`` of the regions' centres.
        scores: ``(n,)`` floating.
        costs: ``(n,)`` float32, cost of a query in the budget's unit.
        classes: ``(n,)`` int16 predicted classes, if the strategy selects by them.
        segments: ``(n,)`` int64 predicted segments of the centres, numbered within their image, likewise.
        features: ``(n, D)`` float32 features of the regions, if the strategy selects by them.
        queried: ``(m, D)`` float32 features of the regions queried in earlier rounds, likewise.
    """

    images: Tensor
    positions: Tensor
    scores: Tensor
    costs: Tensor
    classes: Tensor | None = None
    segments: Tensor | None = None
    features: Tensor | None = None
    queried: Tensor | None = None

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.images)

    def rows(self, rows: Tensor) -> "Candidates":
        """The rows ``(k,)`` in this order; ``queried`` stays complete."""
        columns = {
            name: column[rows] for name, column in vars(self).items() if column is not None and name != "queried"
        }
        return replace(self, **columns)

    def ranked(self) -> Tensor:
        """Row numbers ``(n,)``, best score first; equals in the order of the pool."""
        return self.scores.sort(descending=True, stable=True).indices

    def affordable(self, order: Tensor, amount: float) -> Tensor:
        """The start of ``order`` whose costs just reach ``amount``.

        >>> two = torch.tensor([0, 0])
        >>> candidates = Candidates(two, two, torch.tensor([0.9, 0.1]), costs=torch.tensor([9.0, 9.0]))
        >>> [candidates.affordable(candidates.ranked(), amount).tolist() for amount in (10, 9)]
        [[0, 1], [0]]
        """
        costs = self.costs[order].double()
        if len(costs) and bool((costs == costs[0]).all()):
            return order[: math.ceil(amount / float(costs[0]))]  # the published count, also where it rounds
        return order[: int((costs.cumsum(0) - costs < amount).sum())]


def join(parts: Sequence[Candidates]) -> Candidates:
    """All parts in one, in the order of the pool; ``queried`` is in the order of the parts."""
    if not parts:
        raise ValueError("expected candidates of at least one image, got none")
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Candidates)}
    present = {name: [each for each in column if each is not None] for name, column in columns.items()}
    joined = Candidates(**{name: torch.cat(column) for name, column in present.items() if column})
    if bool((joined.images[1:] >= joined.images[:-1]).all()):
        return joined
    return joined.rows(joined.images.sort(stable=True).indices)
